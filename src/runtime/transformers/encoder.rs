//! Encoders whose output the decoder reads through cross-attention, in `generate()`: the encoder runs once, its output stays, and each
//! layer keeps keys and values of it.
//!
//! Read from transformers 5.23 `generation/utils.py` (`_prepare_encoder_decoder_kwargs_for_generation`, `encoder_outputs`) and
//! `cache_utils.py` (`EncoderDecoderCache`).

use crate::estimate::{Basis, Entry, RUNNING, Term};
use crate::formula::{Expr, Source};
use crate::model::{Component, Keeps, Work};
use crate::quantity::Overflow;
use crate::runtime::Setup;
use crate::runtime::across::Across;
use crate::scenario::CacheImplementation;

/// Values that layers here keep of one request: all of them, or of an offloaded cache those on the GPU, the one in use and the next.
fn of_request(setup: &Setup, across: &Across, most: u64) -> Option<Expr> {
    let mut kinds: Vec<(u64, Vec<Expr>)> = Vec::new();
    for (layers, run) in setup.runs() {
        let layers = layers.min(most);
        let Some(mixer) = (across.mixer)(run) else { continue };
        let elements = setup.cache_elements(&mixer);
        match kinds.iter_mut().find(|(_, kind)| *kind == elements) {
            Some((count, _)) => *count += layers,
            None => kinds.push((layers, elements)),
        }
    }
    let product = |(layers, mut elements): (u64, Vec<Expr>)| {
        elements.insert(0, Expr::named(layers, "layers with cross-attention"));
        elements.push(across.tokens.clone());
        Expr::Product(elements)
    };
    if kinds.is_empty() { None } else { Some(Expr::sum(kinds.into_iter().map(product).collect())) }
}

/// How many layers' are on the GPU.
fn on_gpu(setup: &Setup) -> u64 {
    if setup.scenario.serving.cache == CacheImplementation::Offloaded { 2 } else { u64::MAX }
}

/// What all layers keep of the chosen load, for the host of an offloaded cache; `None` where nothing is read.
pub(super) fn on_host(setup: &Setup) -> Option<Expr> {
    let values = setup.across.as_ref().and_then(|across| of_request(setup, across, u64::MAX))?;
    Some(Expr::Product(vec![values, setup.batch.leaf("requests")]))
}

/// Bytes that one request keeps of what is read; none where nothing is.
pub(super) fn bytes_of_request(setup: &Setup) -> Result<u64, Overflow> {
    let values = setup.across.as_ref().and_then(|across| of_request(setup, across, on_gpu(setup)));
    values.map_or(Ok(0), |values| Expr::encoded(values, setup.dtype).evaluate())
}

/// What stays of it while a request is answered.
pub(super) fn entries(setup: &Setup) -> Result<Vec<Entry>, Overflow> {
    let Some(across) = &setup.across else { return Ok(Vec::new()) };
    let of_load = |values: Expr| Expr::encoded(Expr::Product(vec![values, setup.batch.leaf("requests")]), setup.dtype);
    let mut entries = Vec::new();
    if let Some(values) = of_request(setup, across, on_gpu(setup)) {
        let source = "transformers 5.23 cache_utils.py (EncoderDecoderCache): keys and values of the encoder's whole output, kept from the first step on";
        entries.push(Entry::exact(Term::CrossKvCache, of_load(values), Basis::Derived, source, RUNNING)?);
    }
    if !setup.place.is_first || is_kept_by_layers_alone(setup) {
        return Ok(entries);
    }
    let given = Expr::Product(vec![across.tokens.clone(), width(across)]);
    let source = "the encoder's output, which `generate()` hands to every step (`encoder_outputs`)";
    entries.push(Entry::exact(Term::Activations, of_load(given), Basis::Derived, source, RUNNING)?);
    Ok(entries)
}

/// Whether later steps read the caches alone: Llama 3.2 Vision is no encoder-decoder.
fn is_kept_by_layers_alone(setup: &Setup) -> bool {
    setup.model.decoder().layers.iter().any(|run| run.layer.mixer.attention().is_some_and(|own| own.keeps == Keeps::Encoder))
}

fn width(across: &Across) -> Expr {
    Expr::leaf(across.part.hidden_size, "encoder's hidden_size", Source::Config("hidden_size".into()))
}

/// One layer of the encoder, on the first GPU; `None` without one.
pub(super) fn pass(setup: &Setup) -> Option<Expr> {
    let across = setup.across.as_ref().filter(|_| setup.place.is_first)?;
    let tokens = || across.tokens.clone();
    let requests = || setup.batch.leaf("requests");
    if let Work::Images(images) = &across.part.work {
        let values =
            Expr::leaf(images.widest(images.size)?, "values of feature maps", Source::Derived("what the encoder's widest operator reads and makes".into()));
        return Some(Expr::encoded(Expr::Product(vec![requests(), values]), setup.dtype));
    }
    let layer = (across.pass)(setup, across.part, Expr::Product(vec![tokens(), requests()]));
    let pairs = super::scores(setup, vec![tokens(), tokens(), requests()]).or_else(|| {
        // The bias of all pairs, and a mask of every request made of it (`integrations/sdpa_attention.py`, `create_position_bias_mask`).
        let heads = Expr::leaf(heads_with_bias(across.part)?, "heads with a bias of positions", Source::Config("num_heads".into()));
        let copies = Expr::Sum(vec![Expr::constant(1), requests()]);
        Some(Expr::encoded(Expr::Product(vec![heads, tokens(), tokens(), copies]), setup.dtype))
    });
    Some(match pairs {
        Some(pairs) => Expr::Sum(vec![layer, pairs]),
        None => layer,
    })
}

/// Heads of a table of relative positions that is added to scores (T5); `None` without.
fn heads_with_bias(part: &Component) -> Option<u64> {
    let mut tensors = part.tensors.iter().chain(part.layers.iter().flat_map(|run| &run.tensors));
    tensors.find(|tensor| tensor.name.ends_with("relative_attention_bias.weight")).and_then(|table| table.shape.last().copied())
}
