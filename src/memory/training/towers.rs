//! What is kept beside the decoder: vision towers by their patches, audio towers by their frames, projectors by the tokens that they
//! read, and learned queries by what they read.

use super::activations::{Pass, rules, walk_part};
use super::holdings::parts;
use super::layer::{linear_of, norm_kind};
use super::modules::{Module, modules};
use super::queries::{self, Features, is_queries};
use super::resampler;
use super::run::Run;
use super::tape::{PerToken, Rules, Tape};
use crate::formula::{Expr, Source};
use crate::model::{Component, ComponentKind, Role, Span};
use crate::runtime::sdpa;
use crate::scenario::Method;

/// A part beside the decoder that is counted, the tokens that it reads in a pass, and what it keeps of one.
pub(super) struct Tower<'a> {
    pub part: &'a Component,
    pub tokens: Expr,
    pub pass: Pass,
}

/// The parts beside the decoder that read something.
pub(super) fn of<'a>(run: &Run<'a>) -> Vec<Tower<'a>> {
    let mut towers: Vec<Tower> = Vec::new();
    // What a projector reads: the part before it.
    let mut before: Option<Given> = None;
    let parts: Vec<&Component> = run.model.anatomy.counted().skip(1).collect();
    for (index, &part) in parts.iter().enumerate() {
        let rows = || run.rows.leaf("sequences");
        let read = if let Some(patches) = run.reads(part) {
            let pixels = patches.side.0.saturating_mul(patches.side.1).saturating_mul(patches.channels);
            let front = [Expr::leaf(pixels, "values of a patch", Source::Config("patch_size".into()))];
            let sets = Expr::Product(vec![rows(), run.images.leaf("images")]);
            Some((run.tower_tokens(&patches), sets, run.patches(&patches), of_layers(run, part, run.patches(&patches), &front, &[])))
        } else if let Some(frames) = run.hears(part) {
            let convolution = |value: &u64| Expr::leaf(*value, "values of a convolution", Source::Derived("shapes of the tower's convolutions".into()));
            let mut inputs = vec![Expr::leaf(frames.values, "values of the spectrogram", Source::Config("num_mel_bins".into()))];
            inputs.extend(frames.maps.iter().rev().skip(1).rev().map(convolution));
            let results: Vec<Expr> = frames.maps.iter().map(convolution).collect();
            let one = frames.window.unwrap_or_else(|| frames.tokens(run.seconds.value).unwrap_or_default());
            let sequence = Expr::leaf(one, "tokens of a window", Source::Derived("positions of the audio tower".into()));
            Some((run.sound_tokens(&frames), rows(), run.sound(&frames), of_layers(run, part, sequence, &inputs, &results)))
        } else {
            None
        };
        if let Some((tokens, sets, each, pass)) = read {
            before = Some(Given { tokens: tokens.clone(), sets, each, width: part.hidden_size, flow: pass.flows(), is_of_queries: false });
            towers.push(Tower { part, tokens, pass });
        } else if part.kind == ComponentKind::Projector
            && let Some(given) = &before
            && let Some(queries) = queries::of(part, parts.get(index + 1).copied())
        {
            let (sets, each) = given.in_windows(part);
            let features = Features { tokens: each, width: given.width, flow: given.flow };
            let pass = queries::pass(run, part, queries.clone(), &features);
            let tokens = Expr::Product(vec![sets.clone(), queries.clone()]);
            before = Some(Given { tokens, sets: sets.clone(), each: queries, width: part.hidden_size, flow: pass.flows(), is_of_queries: true });
            towers.push(Tower { part, tokens: sets, pass });
        } else if part.kind == ComponentKind::Projector
            && let Some(given) = before.as_ref().filter(|given| !given.is_of_queries)
            && let Some(queries) = resampler::of(part)
            && let Some(pass) = resampler::pass(run, part, queries, &Features { tokens: given.each.clone(), width: given.width, flow: given.flow })
        {
            towers.push(Tower { part, tokens: given.sets.clone(), pass });
        } else if part.kind == ComponentKind::Projector
            && let Some(given) = &before
            && (given.is_of_queries || !part.tensors.iter().any(is_queries))
            && let Some((merged, pass)) = of_projector(run, part, given.width)
        {
            let tokens = given.tokens.clone();
            let tokens = if merged > 1 { tokens.ceil_div(Expr::leaf(merged, "tokens in one", shapes())) } else { tokens };
            towers.push(Tower { part, tokens, pass });
        } else if matches!(part.kind, ComponentKind::VisionTower | ComponentKind::AudioTower) {
            before = None;
        }
    }
    towers
}

/// What a part gives to the next: its tokens in a pass, the same as sets of so many each, their width, and whether a gradient flows back.
struct Given {
    tokens: Expr,
    sets: Expr,
    each: Expr,
    width: u64,
    flow: bool,
    /// Whether learned queries have read it, which may be among the next part's tensors.
    is_of_queries: bool,
}

impl Given {
    /// The sets, and the tokens of each, as the layers of a part read them: whole, or in windows that are filled up (Granite Speech).
    fn in_windows(&self, part: &Component) -> (Expr, Expr) {
        let span = part.layers.first().and_then(|layers| layers.layer.mixer.span());
        let Some(Span::Chunked(window)) = span else { return (self.sets.clone(), self.each.clone()) };
        let window = || Expr::leaf(window, "tokens of a window", Source::Config("window_size".into()));
        (Expr::Product(vec![self.sets.clone(), self.each.clone().ceil_div(window())]), window())
    }
}

fn shapes() -> Source {
    Source::Derived("shapes of the projector".into())
}

/// The pass through a tower, of one token. Convolutions in front keep their `inputs` where they are trained, activations behind them
/// what they read.
fn of_layers(run: &Run, part: &Component, sequence: Expr, inputs: &[Expr], activated: &[Expr]) -> Pass {
    let rules = &of_tower(run, rules(run, sequence));
    let mut flows = run.method == Method::Full;
    let mut tail = PerToken::default();
    if flows {
        for width in inputs.iter().chain(activated) {
            tail.add(width, rules.compute);
        }
    }
    let mut groups = Vec::new();
    for layers in parts(run, part, false) {
        flows = walk_part(run, rules, part, &layers, flows, &mut groups);
    }
    if part.kind == ComponentKind::AudioTower {
        tail.add_all(&behind(run, rules, part, flows));
    }
    Pass::new(groups, tail)
}

/// Norms behind an audio tower's layers, and their result where a decoder listens to it.
fn behind(run: &Run, rules: &Rules, part: &Component, flows: bool) -> PerToken {
    let mut tape = Tape::new(rules);
    let hidden = Expr::leaf(part.hidden_size, "hidden_size", Source::Config("hidden_size".into()));
    let mut at = tape.value(hidden, rules.stream(), flows);
    for norm in modules(&part.tensors, part.hidden_size).iter().filter(|module| module.role == Role::Norm && module.rows == part.hidden_size) {
        at = tape.norm(at, norm_kind(&run.model.anatomy.model_type, norm), &Expr::constant(1), run.learns(Role::Norm, false));
    }
    if run.encoder_tokens().is_some() && tape.needs_gradient(at) {
        tape.save(at);
    }
    tape.finish().saved
}

/// The pass through a projector of matrices and norms, of one of its tokens, into which so many of the tower's are merged; `None` where
/// it is another kind of network. Matrices that do not follow on each other read the tower side by side.
fn of_projector(run: &Run, part: &Component, width: u64) -> Option<(u64, Pass)> {
    let found: Vec<Module> = modules(&part.tensors, part.hidden_size);
    let linears = || found.iter().filter(|module| module.is_linear());
    let first = linears().next()?;
    let merged = first.columns.checked_div(width).filter(|&merged| merged > 0 && merged * width == first.columns)?;
    if !part.layers.is_empty() || part.tensors.iter().any(|tensor| tensor.shape.len() > 2 && !is_queries(tensor)) {
        return None;
    }
    let rules = rules(run, Expr::constant(1));
    let mut tape = Tape::new(&rules);
    let is_trained = run.method == Method::Full;
    let width_of = |elements: u64| Expr::leaf(elements, "projector width", shapes());
    let read = tape.value(width_of(first.columns), rules.stream(), is_trained);
    let mut last: Option<(u64, super::tape::Value)> = None;
    let mut normed = read;
    for module in found.iter().filter(|module| module.is_linear() || module.role == Role::Norm) {
        if module.role == Role::Norm {
            let at = last.filter(|(rows, _)| *rows == module.rows).map_or(read, |(_, value)| value);
            let result = tape.norm(at, norm_kind(&run.model.anatomy.model_type, module), &Expr::constant(merged), run.learns(Role::Norm, false));
            if at == read {
                normed = result;
            } else {
                last = last.map(|(rows, _)| (rows, result));
            }
            continue;
        }
        let input = match last {
            Some((rows, value)) if rows == module.columns => {
                // An activation between two matrices keeps what it reads.
                if tape.needs_gradient(value) {
                    tape.save(value);
                }
                tape.like(value, width_of(rows))
            }
            _ if module.columns == first.columns => normed,
            _ => return None,
        };
        let linear = linear_of(run, module, width_of(module.rows), is_trained);
        last = Some((module.rows, tape.linear(input, &linear)));
    }
    Some((merged, Pass::new(Vec::new(), tape.finish().saved)))
}

/// A tower's own attention: what is nested beside it has no say.
fn of_tower(run: &Run, rules: Rules) -> Rules {
    if run.model.anatomy.computation.text_type.is_empty() {
        return rules;
    }
    let is_eager = super::layer::falls_back_to_eager(run) && sdpa::is_whole_written_out(run.model);
    let attention = if is_eager { rules.attention } else { run.scenario.attention };
    Rules { attention, caps_scores: false, ..rules }
}
