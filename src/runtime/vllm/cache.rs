//! The pool of blocks that keys, values and states share.
//!
//! `v1/kv_cache_interface.py` (pages), `v1/core/kv_cache_utils.py` and `kv_cache_planning.py` (groups, blocks, concurrency),
//! `platforms/interface.py` (blocks of hybrids). Not counted: the pool's one null block.

use super::super::Setup;
use super::latents::Latents;
use super::version::Rules;
use crate::estimate::Capacity;
use crate::formula::{Expr, Source};
use crate::model::{Mixer, Recurrence, Span};
use crate::quantity::{Bytes, Overflow};

/// What layers of a kind hold of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    /// Keys and values of the tokens in this span.
    Tokens(Span),
    /// Keys and values of what an encoder made, whatever the context.
    Encoded,
    /// A state of fixed size.
    State,
}

/// Layers that hold alike.
pub(super) struct Kind {
    holds: Holds,
    /// In the whole model, and on this rank.
    pub layers: u64,
    pub here: u64,
    /// Bytes of one layer on one rank: of one token, or of one state.
    pub cell: Expr,
    cell_bytes: u64,
    /// Tokens of one block of this kind.
    block: u64,
    /// How many groups of layers.
    pub groups: u64,
}

impl Kind {
    pub fn has_window(&self) -> bool {
        matches!(self.holds, Holds::Tokens(Span::Sliding(_) | Span::Chunked(_)))
    }
}

/// The pool of one rank.
pub(super) struct Pool<'a> {
    setup: &'a Setup<'a>,
    rules: Rules,
    kinds: Vec<Kind>,
    /// Bytes of one block over the layers that share it.
    block_bytes: Expr,
}

impl<'a> Pool<'a> {
    /// The pool of a rank; `None` for models that keep nothing in one.
    pub fn new(setup: &'a Setup<'a>, rules: Rules, latents: Latents) -> Result<Option<Self>, Overflow> {
        let mut kinds = kinds(setup, rules, latents)?;
        if kinds.is_empty() {
            return Ok(None);
        }
        let block = block_tokens(&kinds, rules.block(setup.model));
        if let Some(bytes) = (latents.packed)(setup, &mut kinds) {
            for kind in &mut kinds {
                kind.block = block;
            }
            return Ok(Some(Self { setup, rules, kinds, block_bytes: Expr::Product(vec![bytes, per_block(block)]) }));
        }
        let is_one_group = !rules.is_v1 || kinds.iter().all(|kind| kind.holds == kinds[0].holds);
        let largest = kinds.iter().filter(|kind| kind.holds != Holds::State).max_by_key(|kind| kind.cell_bytes).or(kinds.first());
        let Some(largest) = largest else { return Ok(None) };
        let (page_cell, page_bytes) = (largest.cell.clone(), largest.cell_bytes);
        let page_tokens = if largest.holds == Holds::State { 1 } else { block };
        let group_layers = group_layers(&kinds);
        for kind in &mut kinds {
            // Smaller pages get more tokens where they divide the largest, else they are padded.
            let fits = |kind: &Kind| kind.cell_bytes > 0 && page_bytes.is_multiple_of(kind.cell_bytes);
            kind.block = if !is_one_group && fits(kind) { block * (page_bytes / kind.cell_bytes) } else { block };
            kind.groups = if is_one_group { 1 } else { kind.layers.div_ceil(group_layers) };
        }
        let tokens = per_block(page_tokens);
        let block_bytes = if is_one_group {
            let layers = kinds.iter().filter(|kind| kind.here > 0).map(|kind| Expr::Product(vec![Expr::named(kind.here, "layers"), kind.cell.clone()]));
            let layers = Expr::sum(layers.collect());
            if page_tokens == 1 { layers } else { Expr::Product(vec![layers, tokens]) }
        } else {
            let fullest = kinds.iter().map(|kind| kind.here.div_ceil(kind.groups)).max().unwrap_or(0);
            Expr::Product(vec![
                Expr::leaf(fullest, "layers of a group", Source::Runtime("vLLM: layers of all kinds in groups of equal size, shorter ones padded")),
                page_cell,
                tokens,
            ])
        };
        Ok(Some(Self { setup, rules, kinds, block_bytes }))
    }

    /// True when more is held while a prompt is read than afterwards.
    pub fn shrinks(&self) -> bool {
        self.kinds.iter().any(Kind::has_window)
    }

    /// Keys and values of the chosen load; `None` without.
    pub fn tokens(&self, is_steady: bool) -> Option<Expr> {
        self.held(|kind| matches!(kind.holds, Holds::Tokens(_)), is_steady)
    }

    /// Keys and values of what an encoder made; `None` without.
    pub fn encoded(&self) -> Option<Expr> {
        self.held(|kind| kind.holds == Holds::Encoded, true)
    }

    /// States of the chosen load; `None` without.
    pub fn states(&self) -> Option<Expr> {
        self.held(|kind| kind.holds == Holds::State, true)
    }

    fn held(&self, of: impl Fn(&Kind) -> bool, is_steady: bool) -> Option<Expr> {
        let blocks: Vec<Expr> =
            self.counted().iter().filter(|kind| of(kind)).map(|kind| times(kind.groups, "groups", self.load_blocks(kind, is_steady))).collect();
        if blocks.is_empty() { None } else { Some(Expr::Product(vec![Expr::sum(blocks), self.block_bytes.clone()])) }
    }

    /// Blocks of all requests in one group: a common prefix is held once.
    fn load_blocks(&self, kind: &Kind, is_steady: bool) -> Expr {
        let requests = || self.setup.batch.leaf("requests");
        let each = self.request_blocks(kind, is_steady);
        if !is_steady && kind.has_window() {
            // The steps in flight are shared by all requests.
            let shared = Expr::Sum(vec![
                Expr::Product(vec![requests(), self.request_blocks(kind, true)]),
                self.in_flight().ceil_div(Expr::named(self.block_of(kind), "tokens per block")),
            ]);
            return Expr::Min(vec![Expr::Product(vec![requests(), each]), shared]);
        }
        let Some(share) = self.setup.scenario.serving.prefix_share.filter(|_| kind.holds == Holds::Tokens(Span::Full)) else {
            return Expr::Product(vec![requests(), each]);
        };
        let common = Expr::Fraction { ratio: share, name: "common prefix", source: Source::User("prefix share"), of: Box::new(self.context()) };
        let common = common.floor_div(Expr::named(self.block_of(kind), "tokens per block"));
        Expr::Sum(vec![common.clone(), Expr::Product(vec![requests(), each.minus(common)])])
    }

    fn context(&self) -> Expr {
        self.setup.context.leaf("tokens")
    }

    /// Tokens that one block stands for: ranks of context parallelism share them.
    fn block_of(&self, kind: &Kind) -> u64 {
        kind.block * self.setup.spread.context.value
    }

    /// Tokens of the steps that are computed at once.
    fn in_flight(&self) -> Expr {
        let steps = self.rules.steps_in_flight(self.setup.spread.pipeline.value);
        times(steps, "steps in flight", self.setup.step_tokens.leaf("tokens per step"))
    }

    /// Blocks that one request holds in one group of a kind.
    fn request_blocks(&self, kind: &Kind, is_steady: bool) -> Expr {
        let block = || Expr::named(self.block_of(kind), "tokens per block");
        let held = |tokens: Expr| Expr::Min(vec![if is_steady { tokens } else { Expr::Sum(vec![tokens, self.in_flight()]) }, self.context()]);
        match kind.holds {
            Holds::State => Expr::leaf(
                self.rules.state_pages(),
                "pages",
                Source::Runtime("vLLM mamba_cache_mode: two pages since 0.29, which caches prefixes of hybrids; one before"),
            ),
            Holds::Encoded => {
                let tokens = self.setup.across.as_ref().map(|across| if is_steady { &across.tokens } else { &across.planned });
                tokens.cloned().unwrap_or(Expr::constant(0)).ceil_div(block())
            }
            Holds::Tokens(Span::Full) => self.context().ceil_div(block()),
            Holds::Tokens(Span::Chunked(chunk)) => held(Expr::leaf(chunk, "chunk", Source::Config("attention_chunk_size".into()))).ceil_div(block()),
            Holds::Tokens(Span::Sliding(window)) => {
                let window = Expr::leaf(window, "window", Source::Config("sliding_window".into())).minus(Expr::constant(1));
                Expr::Sum(vec![held(window).ceil_div(block()), Expr::constant(1)])
            }
        }
    }

    /// What the log prints for `room` bytes of cache.
    pub fn capacity(&self, room: Bytes) -> Result<Capacity, Overflow> {
        let blocks = room.get() / self.block_bytes.evaluate()?.max(1);
        let mut per_request = 0u64;
        for kind in self.counted() {
            let each = self.request_blocks(kind, false).evaluate()?;
            per_request = per_request.checked_add(each.checked_mul(kind.groups).ok_or(Overflow)?).ok_or(Overflow)?;
        }
        let per_request = per_request.max(1);
        let ratio = |factor: u64| u64::try_from(u128::from(blocks) * u128::from(factor) / u128::from(per_request)).unwrap_or(u64::MAX);
        let groups = if self.is_one_group() || !self.rules.is_v1 { 1 } else { self.kinds.iter().map(|kind| kind.groups).sum() };
        let tokens = if self.rules.counts_tokens_by_requests() {
            ratio(self.setup.context.value)
        } else {
            let smallest = self.kinds.iter().filter(|kind| kind.holds != Holds::State).map(|kind| self.block_of(kind)).min().unwrap_or(1);
            (blocks / groups).saturating_mul(smallest)
        };
        Ok(Capacity { kv_cache_bytes: room, kv_cache_tokens: tokens, concurrency_hundredths: ratio(100) })
    }

    /// The kinds whose blocks count: in one group a block holds the same tokens of all of them.
    fn counted(&self) -> &[Kind] {
        if self.is_one_group() { &self.kinds[..1] } else { &self.kinds }
    }

    fn is_one_group(&self) -> bool {
        self.kinds.iter().all(|kind| kind.holds == self.kinds[0].holds)
    }
}

fn per_block(tokens: u64) -> Expr {
    Expr::leaf(tokens, "tokens per block", Source::Runtime("vLLM block_size: 16 tokens, 64 with FlashMLA, more where a page must hold a state"))
}

/// `n × what`, without a factor of one.
fn times(n: u64, name: &'static str, what: Expr) -> Expr {
    if n == 1 { what } else { Expr::Product(vec![Expr::named(n, name), what]) }
}

/// The kinds of layers in the pool.
fn kinds(setup: &Setup, rules: Rules, latents: Latents) -> Result<Vec<Kind>, Overflow> {
    let mut kinds: Vec<Kind> = Vec::new();
    let all = setup.model.decoder().runs_in(0..u64::MAX).map(|(count, run)| (count, 0, run));
    let here = setup.runs().map(|(count, run)| (0, count, run));
    let drafting = setup.draft.into_iter().flat_map(|draft| &draft.layers().layers).map(|run| (run.count, run.count * u64::from(setup.place.is_last), run));
    for (layers, here, run) in all.chain(here).chain(drafting) {
        let mixer = &run.layer.mixer;
        let mut add = |holds, cell: Expr, layers: u64, here: u64| -> Result<(), Overflow> {
            let cell_bytes = cell.evaluate()?;
            match kinds.iter_mut().find(|kind| kind.holds == holds && kind.cell_bytes == cell_bytes) {
                Some(kind) => (kind.layers, kind.here) = (kind.layers + layers, kind.here + here),
                None => kinds.push(Kind { holds, layers, here, cell, cell_bytes, block: 1, groups: 1 }),
            }
            Ok(())
        };
        let (own, keys) = match (latents.indexed)(setup, mixer) {
            Some([own, keys]) => (own, Some(keys)),
            None => (cell(setup, mixer), None),
        };
        if let Some(span) = mixer.span().filter(|_| mixer.cache_elements_per_token() > 0) {
            add(Holds::Tokens(span), own, layers, here)?;
        }
        if let Some(keys) = keys {
            add(Holds::Tokens(Span::Full), keys, layers, here)?;
        }
        if let Some(across) = setup.across.as_ref().and_then(|across| (across.mixer)(run)) {
            // In V0 a block has every layer once, with keys and values of what is read or of its own.
            let (layers, here) = if rules.is_v1 || mixer.cache_elements_per_token() == 0 { (layers, here) } else { (0, 0) };
            add(Holds::Encoded, cell(setup, &across), layers, here)?;
        }
        if let Some(recurrence) = mixer.recurrence().filter(|_| rules.pools_states()) {
            add(Holds::State, state(setup, recurrence), layers, here)?;
        }
    }
    let has_full = kinds.iter().any(|kind| kind.holds == Holds::Tokens(Span::Full));
    if !rules.has_hybrid_groups() && has_full {
        for kind in kinds.iter_mut().filter(|kind| kind.has_window()) {
            kind.holds = Holds::Tokens(Span::Full);
        }
    }
    Ok(kinds)
}

/// Bytes of one token in one layer on one rank.
pub(super) fn cell(setup: &Setup, mixer: &Mixer) -> Expr {
    Expr::encoded(Expr::Product(setup.cache_elements(mixer)), setup.kv_encoding)
}

/// Bytes of one request's state in one layer on one rank (`mamba_utils.py`): the convolution's last inputs and the recurrent state,
/// the latter in the dtype that the config or the family names, else both in that of computation.
pub(super) fn state(setup: &Setup, recurrence: &Recurrence) -> Expr {
    let encoding = recurrence.state_dtype.unwrap_or(setup.dtype);
    let mut parts = Vec::new();
    if recurrence.conv_channels > 0 {
        let columns = Expr::named(recurrence.conv_kernel.saturating_sub(1), "columns");
        let channels = setup.spread.per_rank(Expr::named(recurrence.conv_channels, "channels"));
        parts.push(Expr::encoded(Expr::Product(vec![channels, columns]), setup.dtype));
    }
    if recurrence.state > 0 {
        parts.push(Expr::encoded(setup.spread.per_rank(Expr::named(recurrence.state, "state elements")), encoding));
    }
    Expr::sum(parts)
}

/// Tokens of a block: raised until a page of attention holds a state, in whole blocks of the kernels.
fn block_tokens(kinds: &[Kind], block: u64) -> u64 {
    let of = |is_state: bool| kinds.iter().filter(|kind| (kind.holds == Holds::State) == is_state).map(|kind| kind.cell_bytes).max().unwrap_or(0);
    let (token, state) = (of(false), of(true));
    if token == 0 || state == 0 {
        return block;
    }
    let least = if block > 16 { 128 } else { 16 };
    block.max(least * state.div_ceil(least * token))
}

/// Layers of each group: as many as the kind with the fewest has, or the most where these are less than half as many again.
fn group_layers(kinds: &[Kind]) -> u64 {
    let least = kinds.iter().map(|kind| kind.layers).min().unwrap_or(1).max(1);
    let most = kinds.iter().map(|kind| kind.layers).max().unwrap_or(1);
    if most * 2 < least * 3 { most } else { least }
}
