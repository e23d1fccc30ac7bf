//! What the forward pass keeps for the backward pass on one rank: layer by layer from a tape of the operators.

use super::holdings::parts;
use super::images::{Block, attends, walk as walk_images};
use super::layer::{falls_back_to_eager, has_distances, is_table_of_distances, norm_kind, softmax_in_float32, walk};
use super::modules::modules;
use super::run::{Fp8, Run};
use super::stages::{BACKWARD, FORWARD_AND_LOSS};
use super::tape::{Kept, Linear, Of, PerToken, Rules, Size, Tape, Tokens};
use super::towers;
use super::unfollowed;
use crate::estimate::{Basis, Entry, Stage, Term};
use crate::formula::{Expr, Source};
use crate::model::{Component, ComponentKind, Images, Keeps, Role, Work};
use crate::quantity::Overflow;
use crate::runtime::EstimateError;
use crate::scenario::{AttentionImplementation, Checkpointing, Kernels, Loss, Offload, Schedule};

/// The moment of the backward pass through layers that holds the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fullest {
    /// Its start: everything is kept, and only the head has a gradient.
    Start,
    /// Its end, of the decoder or of a tower: every gradient is there, and one layer's activations.
    End,
}

/// Equal layers in a row.
pub(super) struct Group {
    count: u64,
    kept: Kept,
    /// The layer's input, where a gradient flows out of the layer.
    input: PerToken,
}

impl Group {
    /// One more layer, told together with its like.
    pub fn add(groups: &mut Vec<Self>, kept: Kept, input: PerToken) {
        match groups.iter_mut().find(|group| group.kept == kept && group.input == input) {
            Some(group) => group.count += 1,
            None => groups.push(Self { count: 1, kept, input }),
        }
    }

    /// Whether anything is kept for a backward pass.
    fn keeps(&self) -> bool {
        !self.input.is_empty() || !self.kept.saved.is_empty()
    }

    /// What is kept of a layer that is computed again.
    const fn checkpoint(&self, run: &Run) -> &PerToken {
        if matches!(run.checkpointing, Checkpointing::Selective) { &self.kept.selected } else { &self.input }
    }

    /// What computing it again adds to that. Selected results are taken from where they are kept; an input is what it was.
    fn recomputed(&self, run: &Run, tokens: &Tokens) -> Result<Option<Expr>, Overflow> {
        let is_part = run.checkpointing == Checkpointing::Selective || self.kept.has_input;
        let nothing = PerToken::default();
        let (rest, missing) = self.kept.saved.less(if is_part { self.checkpoint(run) } else { &nothing });
        let [rest, missing] = [rest, missing].map(|list| tokens.bytes(&[(Some(Expr::named(1, COMPUTED)), &list)]));
        if value(&rest)? <= value(&missing)? {
            return Ok(None);
        }
        let rest = Expr::sum(rest);
        Ok(Some(if missing.is_empty() { rest } else { rest.minus(Expr::sum(missing)) }))
    }
}

/// A forward pass of one rank.
pub(super) struct Pass {
    groups: Vec<Group>,
    /// Outside of the layers.
    tail: PerToken,
    /// What is worked with outside of them.
    working: Vec<Size>,
    /// The passes through towers and projectors, with the tokens that they read.
    towers: Vec<(Tokens, Pass)>,
}

/// Layers that are at work.
const COMPUTED: &str = "layers being computed";

/// How the pass is computed; `sequence` is the tokens that attend to each other.
pub(super) fn rules(run: &Run, sequence: Expr) -> Rules {
    let computation = &run.model.anatomy.computation;
    let is_adapter = run.method.is_adapter();
    Rules {
        compute: run.recipe.compute.block_bytes,
        autocast: run.recipe.casts_weights,
        // torchao casts what it keeps once more in the backward pass (float8/float8_linear.py).
        fp8: run.fp8 == Some(Fp8::TransformerEngine),
        fused: run.kernels == Kernels::Fused,
        attention: if falls_back_to_eager(run) { AttentionImplementation::Eager } else { run.scenario.attention },
        sequence,
        rows: run.rows.leaf("sequences"),
        adapter: run.recipe.weight.block_bytes,
        lowers_adapters: is_adapter && run.is_mixed,
        adapter_dropout: is_adapter && run.has_adapter_dropout,
        hidden_dropout: computation.hidden_dropout,
        attention_dropout: computation.attention_dropout,
        caps_scores: computation.caps_scores,
        // Autocast computes it so everywhere.
        softmax_in_float32: run.recipe.casts_weights || is_adapter && run.is_mixed || softmax_in_float32(run),
    }
}

impl Pass {
    /// Writes the pass down.
    pub fn of(run: &Run) -> Result<Self, EstimateError> {
        let rules = rules(run, run.sequence());
        let mut groups = Vec::new();
        if let (Work::Images(images), Some(size)) = (&run.model.decoder().work, run.image) {
            return Self::of_images(run, &rules, images, size);
        }
        let decoder = run.model.decoder();
        // A checkpointed layer needs an input with a gradient (`enable_input_require_grads`); embeddings that are trained have one.
        let is_embedding_trained = run.learns(Role::Embedding, false);
        let starts = is_embedding_trained || run.place.stage > 0 || run.checkpointing != Checkpointing::None && run.method.is_adapter();
        let starts = starts || matches!(run.method, crate::scenario::Method::Prefix | crate::scenario::Method::Prompt);
        let towers = if run.place.is_first { towers::of(run) } else { Vec::new() };
        // What has a gradient in a tower or a projector gives its features one, and they are put among the embeddings.
        let starts = starts || towers.iter().any(|tower| tower.pass.keeps());
        let mut outside = PerToken::default();
        for (index, component) in run.model.anatomy.counted().enumerate() {
            let is_read = index == 0 || component.kind == ComponentKind::TextEncoder && run.place.is_first;
            if !is_read {
                continue;
            }
            let mut flows = starts;
            let before = groups.len();
            // What passes through the weights of others keeps the same again, but for passes under no gradient.
            let mut without = run.model.anatomy.computation.without_gradient;
            for mut part in parts(run, component, index == 0) {
                if let Some(like) = unfollowed::like(component, part.run) {
                    let skipped = without.min(part.count);
                    without -= skipped;
                    part.count -= skipped;
                    part.run = like;
                }
                flows = walk_part(run, &rules, component, &part, flows, &mut groups);
            }
            // What no gradient passes keeps nothing of what it is handed.
            if groups[before..].iter().any(Group::keeps) {
                outside.add_all(&distances(run, &rules, component));
            }
        }
        let flows = groups.last().is_none_or(Group::keeps);
        let towers = towers.into_iter().map(|tower| (Tokens { all: tower.tokens, rows: rules.rows.clone() }, tower.pass)).collect();
        outside.add_all(&tail(run, &rules, decoder, flows));
        Ok(Self { groups, tail: outside, working: Vec::new(), towers })
    }

    /// A pass of these layers, and of what is outside of them.
    pub fn new(groups: Vec<Group>, tail: PerToken) -> Self {
        Self { groups, tail, working: Vec::new(), towers: Vec::new() }
    }

    /// Whether anything is kept for a backward pass.
    fn keeps(&self) -> bool {
        !self.tail.is_empty() || self.groups.iter().any(Group::keeps)
    }

    /// Whether a gradient flows into what is behind the layers.
    pub fn flows(&self) -> bool {
        self.groups.last().is_some_and(|group| !group.input.is_empty())
    }

    /// The same of a network of convolutions: equal blocks in a row are told together.
    fn of_images(run: &Run, rules: &Rules, images: &Images, size: (u64, u64)) -> Result<Self, EstimateError> {
        let maps = walk_images(run, rules, images, size)?;
        let mut groups: Vec<Group> = Vec::new();
        let blocks = match attends(&images.steps()) {
            Some(is_second) if run.checkpointing == Checkpointing::Full => in_stages(maps.blocks, is_second)?,
            _ => maps.blocks,
        };
        for Block { kept, input, .. } in blocks {
            match groups.last_mut() {
                Some(last) if last.kept == kept && last.input == input => last.count += 1,
                _ => groups.push(Group { count: 1, kept, input }),
            }
        }
        Ok(Self { groups, tail: maps.outside, working: maps.working, towers: Vec::new() })
    }

    /// What layers keep at the end of the forward pass: under checkpointing only their inputs.
    fn kept(&self, run: &Run, tokens: &Tokens) -> Vec<Expr> {
        let times = |count: u64, kept| (Some(Expr::leaf(count, "layers", Source::Config("num_hidden_layers".into()))), kept);
        let of_layers = self.groups.iter().flat_map(|group| {
            let Group { count, kept, input } = group;
            let lists = match run.checkpointing {
                Checkpointing::None => vec![(*count, &kept.saved)],
                Checkpointing::Every(every) => vec![(count.div_ceil(every), input), (count - count.div_ceil(every), &kept.saved)],
                Checkpointing::Uniform(layers) => vec![(count.div_ceil(layers), input)],
                Checkpointing::Selective | Checkpointing::Full => vec![(*count, group.checkpoint(run))],
            };
            lists.into_iter().filter(|(count, _)| *count > 0).map(|(count, kept)| times(count, kept))
        });
        tokens.bytes(&of_layers.collect::<Vec<_>>())
    }

    /// Those layers that keep the most, as many as are asked for.
    fn largest(&self, tokens: &Tokens, layers: u64) -> Result<Vec<(u64, &Group)>, Overflow> {
        let mut groups = Vec::new();
        for group in self.groups.iter().filter(|group| !group.kept.saved.is_empty()) {
            groups.push((value(&tokens.bytes(&[(None, &group.kept.saved)]))?, group));
        }
        groups.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        let mut left = layers;
        let parts = groups.into_iter().map(|(_, group)| {
            let count = group.count.min(left);
            left -= count;
            (count, group)
        });
        Ok(parts.filter(|(count, _)| *count > 0).collect())
    }

    /// What a layer's backward pass works with besides.
    fn working(&self, tokens: &Tokens) -> Result<Option<Expr>, Overflow> {
        let mut best: Option<(u64, Expr)> = None;
        for size in self.groups.iter().flat_map(|group| &group.kept.working).chain(&self.working) {
            let one = size.in_pass(tokens);
            let bytes = one.evaluate()?;
            if best.as_ref().is_none_or(|(most, _)| bytes > *most) {
                best = Some((bytes, one));
            }
        }
        Ok(best.map(|(_, one)| one))
    }

    /// The backward pass through the layers that take the most, beside what all keep: what is computed again, and what they work with.
    fn at_layer(&self, run: &Run, tokens: &Tokens) -> Result<Vec<Expr>, Overflow> {
        let layers = again(run).map_or(Ok(Vec::new()), |count| self.largest(tokens, count))?;
        let mut parts = Vec::new();
        for (index, (count, group)) in layers.into_iter().enumerate() {
            // The first reads what was kept of it.
            let others = count - u64::from(index == 0);
            if index == 0 {
                parts.extend(group.recomputed(run, tokens)?);
            }
            if others > 0 {
                parts.extend(tokens.bytes(&[(Some(Expr::named(others, COMPUTED)), &group.kept.saved)]));
            }
        }
        Ok(parts.into_iter().chain(self.working(tokens)?).collect())
    }

    /// The same through a layer after which there is no other.
    fn at_last_layer(&self, tokens: &Tokens) -> Result<Vec<Expr>, Overflow> {
        let layers = self.largest(tokens, 1)?;
        let kept = layers.into_iter().flat_map(|(count, group)| tokens.bytes(&[(Some(Expr::named(count, COMPUTED)), &group.kept.saved)]));
        Ok(kept.chain(self.working(tokens)?).collect())
    }

    /// What towers keep for their backward passes, and the layer of one of them whose backward pass takes the most.
    fn towers(&self, run: &Run) -> Result<(Vec<Expr>, Vec<Expr>), Overflow> {
        let (mut kept, mut largest) = (Vec::new(), Vec::new());
        for (tokens, tower) in &self.towers {
            let mut parts = tower.kept(run, tokens);
            parts.extend(tokens.bytes(&[(None, &tower.tail)]));
            // A tower that keeps nothing has no backward pass.
            if parts.is_empty() {
                continue;
            }
            kept.push(Expr::sum(parts));
            let layer = tower.at_layer(run, tokens)?;
            if value(&layer)? > value(&largest)? {
                largest = layer;
            }
        }
        Ok((kept, largest))
    }

    /// Entries, what of them lies on the host, and which moment of the backward pass decides. `gradients` are the bytes that all
    /// gradients take at its end, beyond what is there at its start.
    pub fn entries(&self, run: &Run, gradients: u64) -> Result<(Vec<Entry>, Vec<Entry>, Fullest), Overflow> {
        let flight = in_flight(run);
        let tokens = run.all_tokens();
        let of_layers = self.kept(run, &tokens);
        let band = if run.kernels == Kernels::Fused { (80, 120) } else { (90, 115) };
        let mut kept = Vec::new();
        let mut on_host = Vec::new();
        if !of_layers.is_empty() {
            let all = Expr::sum(of_layers);
            let all = flight.as_ref().map_or_else(|| all.clone(), |flight| flight.of(all.clone()));
            if run.offload == Offload::Activations {
                let layers: u64 = self.groups.iter().map(|group| group.count).sum();
                let two = Expr::Product(vec![Expr::named(2, "layers"), all.clone()]).ceil_div(Expr::leaf(
                    layers.max(2),
                    "layers",
                    Source::Config("num_hidden_layers".into()),
                ));
                on_host.push(Entry::modelled(Term::Activations, all, band, "what layers keep, moved to pinned host memory", super::stages::STEPPING)?);
                kept.push(two);
            } else {
                kept.push(all);
            }
        }
        kept.extend(tokens.bytes(&[(None, &self.tail)]));
        let (by_towers, towers_layer) = self.towers(run)?;
        // They read for the first chunk of layers, so that every micro-batch that is under way has been through them.
        kept.extend(by_towers.iter().map(|one| flight.as_ref().map_or_else(|| one.clone(), |flight| flight.of_first_chunk(one.clone()))));
        let decoders_layer = self.at_layer(run, &tokens)?;
        // Towers come first in the forward pass and last in the backward pass: until then all that they keep is held.
        let after: Vec<Expr> = by_towers.iter().cloned().chain(self.at_last_layer(&tokens)?).collect();
        let last: Vec<Expr> = by_towers.into_iter().chain(towers_layer.clone()).collect();
        // With several passes in flight, others still keep everything while a tower is at work.
        let first_layer = if flight.is_some() && value(&towers_layer)? > value(&decoders_layer)? { towers_layer } else { decoders_layer };
        let start: Vec<Expr> = kept.iter().cloned().chain(first_layer).collect();
        let end = if value(&last)? > value(&after)? { last } else { after };
        let grown = if run.keeps_gradients() { 0 } else { gradients };
        let is_end = flight.is_none() && value(&end)?.saturating_add(grown) > value(&start)?;
        let source = "operators of transformers 5.23 modelling code, and what torch 2.15 derivatives.yaml keeps for each";
        let mut entries = Vec::new();
        if !kept.is_empty() {
            entries.push(Entry::modelled(Term::Activations, Expr::sum(kept), band, source, FORWARD_AND_LOSS)?);
        }
        let (parts, fullest) = if is_end { (end, Fullest::End) } else { (start, Fullest::Start) };
        if !parts.is_empty() {
            entries.push(Entry::modelled(Term::Activations, Expr::sum(parts), (80, 125), source, BACKWARD)?);
        }
        Ok((entries, on_host, fullest))
    }

    /// What one layer takes in a pass that keeps nothing: scoring, rolling out.
    pub fn inference(&self, run: &Run, term: Term, stages: &'static [Stage]) -> Result<Option<Entry>, Overflow> {
        let Some(formula) = self.working(&run.all_tokens())? else { return Ok(None) };
        Entry::modelled(term, formula, (50, 200), "one layer at a time: the widest values of its feed-forward", stages).map(Some)
    }
}

/// transformers 5.23 computes whole stages of Swin again (`SwinStage`), and in the first version every layer of one on its own
/// (`SwinLayer`): while one of them is at work the inputs of its stage's others are kept, in the second version all of its layers.
fn in_stages(blocks: Vec<Block>, is_second: bool) -> Result<Vec<Block>, Overflow> {
    let mut stages: Vec<Block> = Vec::new();
    for blocks in blocks.chunk_by(|one, next| one.stage == next.stage) {
        let mut sizes = blocks.iter().map(|block| block.kept.saved.bytes()).collect::<Result<Vec<u64>, Overflow>>()?.into_iter().enumerate();
        // Layers with a mask keep more.
        let (Some((largest, _)), Some(first)) = (sizes.by_ref().max_by_key(|(_, size)| *size), blocks.first()) else { continue };
        let mut stage = Block { kept: Kept::default(), input: first.input.clone(), stage: first.stage, is_layer: true };
        for (index, block) in blocks.iter().enumerate() {
            let is_held = is_second || index == largest || !block.is_layer;
            stage.kept.saved.add_all(if is_held { &block.kept.saved } else { &block.input });
            stage.kept.working.extend(block.kept.working.iter().cloned());
        }
        stages.push(stage);
    }
    Ok(stages)
}

/// Layers that are computed again at once in the backward pass.
const fn again(run: &Run) -> Option<u64> {
    match run.checkpointing {
        Checkpointing::None => None,
        Checkpointing::Uniform(layers) => Some(layers),
        Checkpointing::Selective | Checkpointing::Full | Checkpointing::Every(_) => Some(1),
    }
}

fn value(parts: &[Expr]) -> Result<u64, Overflow> {
    parts.iter().try_fold(0u64, |sum, part| sum.checked_add(part.evaluate()?).ok_or(Overflow))
}

/// Walks equal layers; the first of them may be the one at which gradients begin to flow.
pub(super) fn walk_part(run: &Run, rules: &Rules, component: &Component, part: &super::holdings::Part<'_>, flows: bool, groups: &mut Vec<Group>) -> bool {
    // Layers that attend to images are passed over where there are none (`MllamaTextModel`).
    if run.images.value == 0 && part.run.layer.mixer.attention().is_some_and(|attention| attention.keeps == Keeps::Encoder) {
        return flows;
    }
    let mut flows = flows;
    let mut left = part.count;
    while left > 0 {
        let walked = walk(run, rules, component, part.run, part.is_trained || run.method == crate::scenario::Method::Full, flows);
        let count = if walked.flows == flows { left } else { 1 };
        let mut input = PerToken::default();
        if walked.flows {
            input.add(&run.width(component.hidden_size, "hidden_size", Source::Config("hidden_size".into()), false), rules.stream());
        }
        groups.push(Group { count, kept: walked.kept, input });
        flows = walked.flows;
        left -= count;
    }
    flows
}

/// What is kept of values by distance outside of attention, for all sequences: which of the table each pair of tokens has; where layers are
/// computed again, that comes back with the layer. Layers without tables of their own are handed what the first one made (`T5Stack.forward`):
/// a value for each head and pair, and zeros of that size where a decoder attends to an encoder. Checkpointed layers keep what they are handed.
fn distances(run: &Run, rules: &Rules, component: &Component) -> PerToken {
    let mut kept = PerToken::default();
    if !has_distances(component) {
        return kept;
    }
    let all = |tensors: &[crate::model::Tensor], count: u64| count * tensors.iter().filter(|tensor| is_table_of_distances(tensor)).count() as u64;
    let tables = component.layers.iter().fold(all(&component.tensors, 1), |sum, layers| sum.saturating_add(all(&layers.tensors, layers.count)));
    if !matches!(run.checkpointing, Checkpointing::None | Checkpointing::Selective) {
        let layers: u64 = component.layers.iter().fold(0, |sum, layers| sum.saturating_add(layers.count));
        if let Some(heads) = component.layers.iter().find_map(|layers| layers.layer.mixer.attention()).filter(|_| tables < layers) {
            let heads = run.width(heads.heads, "heads", Source::Config("num_attention_heads".into()), true);
            let is_cross = component.layers.iter().flat_map(|layers| &layers.tensors).any(|tensor| tensor.name.contains("EncDecAttention"));
            let scores = Expr::Product(vec![heads, rules.sequence.clone()]);
            kept.add_of(Of::Position, &scores, rules.stream() * tables);
            if is_cross {
                kept.add_of(Of::Position, &scores, rules.compute);
            }
        }
    } else if run.learns(Role::Embedding, false) {
        kept.add_of(Of::Position, &rules.sequence, tables.saturating_mul(8));
    }
    kept
}

/// Norms outside of the layers, and what the head reads.
fn tail(run: &Run, rules: &Rules, decoder: &Component, flows: bool) -> PerToken {
    let mut tape = Tape::new(rules);
    if !run.place.is_last {
        return PerToken::default();
    }
    let hidden = run.width(decoder.hidden_size, "hidden_size", Source::Config("hidden_size".into()), false);
    let mut at = tape.value(hidden, rules.stream(), flows);
    for module in modules(&decoder.tensors, decoder.hidden_size).iter().filter(|module| module.role == Role::Norm) {
        at = tape.norm(at, norm_kind(&run.model.anatomy.model_type, module), &Expr::constant(1), run.learns(Role::Norm, false));
    }
    let is_trained = decoder.tensors.iter().any(|tensor| super::loss::is_head(decoder, tensor) && run.learns(tensor.role, false));
    // A fused head keeps what it reads itself: told with the logits.
    if super::loss::has_logits(run) && run.loss != Loss::Tiled {
        tape.linear(at, &Linear { outputs: Expr::constant(1), is_trained, rank: None, magnitudes: false, factors: None });
    }
    tape.finish().saved
}

/// Micro-batches whose activations a pipeline stage holds at once.
struct Flight {
    passes: u64,
    chunks: u64,
    /// Of them, those that have been through the stage's first chunk of layers.
    first: u64,
}

impl Flight {
    fn of(&self, one: Expr) -> Expr {
        if self.chunks == 1 {
            return self.of_first_chunk(one);
        }
        let passes = Expr::leaf(self.passes, "chunks in flight", Source::Derived("pipeline schedule".into()));
        Expr::Product(vec![passes, one]).ceil_div(Expr::named(self.chunks, "chunks"))
    }

    fn of_first_chunk(&self, one: Expr) -> Expr {
        let passes = Expr::leaf(self.first, "micro-batches in flight", Source::Derived("pipeline schedule".into()));
        Expr::Product(vec![passes, one])
    }
}

/// 1F1B: a stage starts as many forward passes as there are stages from it to the end before its first backward pass (Narayanan et
/// al., arXiv 2104.04473); interleaved, Megatron-LM `core/pipeline_parallel/schedules.py:get_pp_rank_microbatches` warms up with twice the
/// stages behind it and a group of micro-batches for every chunk but one, and runs one forward pass more before the first backward pass.
fn in_flight(run: &Run) -> Option<Flight> {
    let stages = run.world.pipeline.value;
    if stages == 1 {
        return None;
    }
    let (passes, after) = (run.accumulation.value, stages - run.place.stage - 1);
    Some(match run.schedule {
        Schedule::Gpipe => Flight { passes, chunks: 1, first: passes },
        Schedule::OneForwardOneBackward => Flight { passes: passes.min(after + 1), chunks: 1, first: passes.min(after + 1) },
        Schedule::Interleaved => {
            let chunks = run.virtual_stages.value;
            // Groups of as many micro-batches as stages go through the first chunk before the next one (`get_schedule_table`): when
            // backward passes reach the first stage's first chunk, a second group has been through it.
            Flight {
                passes: (2 * after + (chunks - 1) * stages + 1).min(passes.saturating_mul(chunks)),
                chunks,
                first: passes.min(2 * after + if chunks > 1 { 2 } else { 1 }),
            }
        }
    })
}

/// Copies that autocast makes of trained float32 matrices: kept to the end of the forward pass, and for the backward pass of what is not
/// recomputed.
pub(super) fn casts(run: &Run, holdings: &super::holdings::Holdings) -> Result<Vec<Entry>, Overflow> {
    if !run.recipe.casts_weights {
        return Ok(Vec::new());
    }
    let decoder = run.model.decoder();
    // TRL casts slices of the head as it needs them.
    let is_sliced = run.loss == Loss::Tiled && super::loss::has_logits(run);
    let is_matrix = |held: &super::holdings::Held| {
        let tensor = held.tensor;
        held.is_trained
            && !(is_sliced && !held.is_in_layer && super::loss::is_head(decoder, tensor))
            && tensor.shape.len() > 1
            && (tensor.role == Role::Head || super::loss::is_tied(decoder, tensor) || !matches!(tensor.role, Role::Embedding | Role::Position | Role::Norm))
    };
    let all = holdings.sum(is_matrix)?;
    if all == [0, 0] {
        return Ok(Vec::new());
    }
    let head = holdings.sum(|held| is_matrix(held) && !held.is_in_layer)?;
    let source = "torch 2.15 aten/src/ATen/autocast_mode.cpp: 16-bit copies of float32 matrices, cached in the forward pass and kept for the backward pass";
    let entry = |counts: [u64; 2], stages| {
        let count = super::states::share_of(run, counts, false, "cast parameters");
        Entry::exact(Term::Activations, Expr::encoded(count, run.recipe.compute), Basis::Derived, source, stages)
    };
    if run.checkpointing == Checkpointing::None {
        return Ok(vec![entry(all, super::stages::PASSES)?]);
    }
    Ok(vec![entry(all, &[Stage::Forward])?, entry(head, &[Stage::Loss])?])
}
