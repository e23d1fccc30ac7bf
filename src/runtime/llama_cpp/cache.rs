//! Caches and states, with the layers that they belong to.
//!
//! Read from llama.cpp 0c1e57098: `llama-kv-cache.cpp`, `llama-kv-cache-iswa.cpp`, `llama-memory-recurrent.cpp`
//! (`llama-hparams.cpp`: `n_embd_r`, `n_embd_s`).

use super::pool::Factor;
use super::run::{Run, Spot};
use crate::encoding::Encoding;
use crate::estimate::{Basis, Entry, RUNNING, Term};
use crate::formula::Expr;
use crate::model::{Keeps, Mixer, Recurrence};
use crate::quantity::Overflow;

/// Keys or values of layers that are alike.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Kind {
    what: &'static str,
    is_windowed: bool,
    heads: u64,
    width: u64,
    encoding: Encoding,
}

/// The entries of one place.
pub(super) fn entries(run: &Run, place: Spot) -> Result<Vec<Entry>, Overflow> {
    let mut kinds: Vec<(Kind, u64)> = Vec::new();
    let mut states: Vec<(Recurrence, u64)> = Vec::new();
    let mut first = 0u64;
    for layers in &run.model.decoder().layers {
        let range = first..first.saturating_add(layers.count);
        first = range.end;
        let here = run.caches_at(range, place);
        if here == 0 {
            continue;
        }
        for kind in kinds_of(run, &layers.layer.mixer) {
            add(&mut kinds, kind, here);
        }
        if let Some(recurrence) = layers.layer.mixer.recurrence() {
            add(&mut states, *recurrence, here);
        }
    }
    let mut entries = Vec::new();
    if !kinds.is_empty() {
        let formula = Expr::sum(kinds.iter().map(|(kind, layers)| kind.formula(run, *layers)).collect());
        let source = "llama.cpp llama-kv-cache.cpp: cells of every sequence, all allocated at the start; of layers on the host, and of all with --no-kv-offload, in its memory";
        entries.push(Entry::exact(Term::KvCache, formula, Basis::Derived, source, RUNNING)?);
    }
    if !states.is_empty() {
        let formula = Expr::sum(states.iter().map(|(recurrence, layers)| state(run, recurrence, *layers)).collect());
        let source = "llama.cpp llama-memory-recurrent.cpp: states of every sequence in float32";
        entries.push(Entry::exact(Term::State, formula, Basis::Derived, source, RUNNING)?);
    }
    Ok(entries)
}

fn add<T: PartialEq>(list: &mut Vec<(T, u64)>, kind: T, layers: u64) {
    match list.iter_mut().find(|(known, _)| *known == kind) {
        Some((_, sum)) => *sum = sum.saturating_add(layers),
        None => list.push((kind, layers)),
    }
}

/// What a layer keeps of every token.
fn kinds_of(run: &Run, mixer: &Mixer) -> Vec<Kind> {
    let (keys, values) = run.kv;
    match mixer {
        Mixer::Attention(attention) | Mixer::Parallel(attention, _) if attention.keeps == Keeps::Own => {
            let is_windowed = run.is_windowed(attention.span);
            let kind = |what, width, encoding| Kind { what, is_windowed, heads: attention.kv_heads, width, encoding };
            vec![kind("keys", attention.key_dim, keys), kind("values", attention.value_dim, values)]
        }
        // Values are a view of the latents.
        Mixer::Latent(latent) => {
            let width = latent.kv_lora_rank.saturating_add(latent.rope_dim);
            vec![Kind { what: "latents", is_windowed: run.is_windowed(latent.span), heads: 1, width, encoding: keys }]
        }
        Mixer::Attention(_) | Mixer::Parallel(..) | Mixer::Recurrent(_) | Mixer::None => Vec::new(),
    }
}

impl Kind {
    fn formula(&self, run: &Run, layers: u64) -> Expr {
        let layers = Factor::config(layers, "layers", "num_hidden_layers, by where they lie").leaf();
        let mut product = vec![layers];
        if self.heads > 1 {
            product.push(Factor::config(self.heads, "KV heads", "num_key_value_heads").leaf());
        }
        product.push(Factor::config(self.width, self.what, "the sizes of the layer's attention").leaf());
        product.push(run.cells(self.is_windowed).leaf());
        if run.streams.count > 1 {
            product.push(run.streams.leaf());
        }
        Expr::encoded(Expr::Product(product), self.encoding)
    }
}

/// What a recurrence keeps: past inputs of its convolution, and its state.
fn state(run: &Run, recurrence: &Recurrence, layers: u64) -> Expr {
    let layers = Factor::config(layers, "layers", "num_hidden_layers, by where they lie").leaf();
    let past = Expr::Product(vec![
        Factor::config(recurrence.conv_channels, "channels", "the layer's convolution").leaf(),
        Factor::config(recurrence.conv_kernel.saturating_sub(1), "past inputs", "the convolution's width less one").leaf(),
    ]);
    let state = Factor::config(recurrence.state, "state elements", "the sizes of the layer's recurrence").leaf();
    let parts = match (recurrence.conv_channels, recurrence.state) {
        (0, _) => state,
        (_, 0) => past,
        _ => Expr::Sum(vec![past, state]),
    };
    Expr::encoded(Expr::Product(vec![layers, run.sequences.leaf(), parts]), Encoding::F32)
}
