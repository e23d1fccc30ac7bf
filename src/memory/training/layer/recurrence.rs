//! Recurrences on the tape.

use super::super::modules::Module;
use super::super::tape::Value;
use super::{Walk, shape_of};
use crate::formula::{Expr, Source};
use crate::model::{Recurrence, RecurrenceKind};
use crate::quantity::ParamCount;

impl<'a> Walk<'a, '_> {
    /// A recurrence with the kernels that its family is trained with.
    pub(super) fn recurrence(&mut self, input: Value, modules: &[Module<'a>]) -> Value {
        let Some(&recurrence) = self.layer.mixer.recurrence() else { return input };
        let (inputs, outputs): (Vec<Module<'a>>, Vec<Module<'a>>) = modules.iter().partition(|module| module.role == crate::model::Role::MixerInput);
        let hidden = self.component.hidden_size;
        let mut first = None;
        let is_delta = matches!(recurrence.kind, RecurrenceKind::GatedDeltaNet | RecurrenceKind::KimiDelta);
        for module in inputs.iter().filter(|module| module.columns == hidden) {
            let result = self.linear(input, module, "recurrence's inputs", true);
            // The kernel, or what follows, reads it. Those of delta rules are put together first, but for what another matrix reads.
            let is_read = !is_delta || inputs.iter().any(|other| other.columns == module.rows && other.columns != hidden);
            if self.tape.needs_gradient(result) && is_read {
                self.tape.save(result);
            }
            first = first.or(Some(result));
        }
        let flows = first.unwrap_or(input);
        let inner = outputs.first().map_or(hidden, |output| output.columns);
        let inner = self.run.width(inner, "recurrence's width", Source::Derived("input of the output projection".into()), true);
        if self.tape.needs_gradient(flows) {
            let heads = self.decays();
            self.keep_recurrence(&recurrence, &inner, &heads);
        }
        let result = self.tape.value(inner.clone(), self.tape.rules.compute, self.tape.needs_gradient(flows));
        self.tape.works_with(inner, 2 * self.tape.rules.compute);
        match outputs.first() {
            // The kernel of Mamba-2 includes the projection and computes its input again.
            Some(output) if recurrence.kind == RecurrenceKind::Mamba2 => {
                self.tape.value(self.run.width(output.rows, "hidden_size", shape_of(output), false), self.tape.rules.compute, true)
            }
            Some(output) => self.linear(result, output, "hidden_size", false),
            None => result,
        }
    }

    /// Heads of a recurrence: each has a decay.
    fn decays(&self) -> Expr {
        let mut tensors = self.tensors.iter().filter(|tensor| tensor.name.ends_with("A_log"));
        let heads = tensors.next().and_then(|tensor| tensor.elements().ok()).map_or(0, ParamCount::get);
        self.run.width(heads, "heads of the recurrence", Source::Derived("shape of A_log".into()), true)
    }

    /// What the kernels keep between the projections.
    fn keep_recurrence(&mut self, recurrence: &Recurrence, inner: &Expr, heads: &Expr) {
        let low = self.tape.rules.compute;
        let channels = self.run.width(recurrence.conv_channels, "convolution channels", Source::Config("convolution channels".into()), true);
        match recurrence.kind {
            // mamba_ssm `MambaSplitConv1dScanCombinedFn`: the projected input and the scan's result.
            RecurrenceKind::Mamba2 => self.tape.keep(inner, low),
            // mamba_ssm `MambaInnerFn`: the scan's result, and its state in float32 once in 2,048 tokens.
            RecurrenceKind::Mamba1 => {
                self.tape.keep(inner, low);
                let states = Expr::leaf(recurrence.state, "state elements", Source::Config("state size".into()));
                self.tape.keep(&Expr::Product(vec![Expr::named(2, "(state and its input)"), states]).ceil_div(Expr::named(2048, "tokens of a chunk")), 4);
            }
            // fla 0.6 `chunk_gated_delta_rule`: the convolution's input, from its result queries and keys of length 1 and a copy of the
            // values, triangles of a chunk of 64; in float32 decays, their sums and what they are made of, and lengths. Then the gated
            // norm of its result, with the gate.
            RecurrenceKind::GatedDeltaNet => {
                self.tape.keep(&channels, 2 * low);
                self.tape.keep(inner, 2 * low);
                self.tape.keep(heads, 65 * low + 24);
            }
            // fla 0.6 `chunk_kda`: the same with two triangles, and decays for every value (`KimiLinearForgetGate`).
            RecurrenceKind::KimiDelta => {
                self.tape.keep(&channels, 2 * low);
                self.tape.keep(inner, 2 * low + 21);
                self.tape.keep(heads, 129 * low + 12);
            }
            // A product, the convolution's result, and their gated product.
            RecurrenceKind::ShortConvolution => self.tape.keep(inner, 2 * low),
            RecurrenceKind::Linear | RecurrenceKind::Rglru | RecurrenceKind::Rwkv | RecurrenceKind::Xlstm => {
                self.tape.keep(inner, 2 * low + 4);
            }
        }
    }
}
