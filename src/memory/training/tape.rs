//! What autograd keeps of a forward pass: each operator says which of its inputs and results its backward needs, and what several
//! need is kept once. Sizes are bytes of a token, or of what tokens share, as multiples of named widths, so that they can be printed.
//!
//! The rules are those of torch 2.15's operators (`derivatives.yaml`) under modules written as in transformers 5.23 and PEFT 0.21.

use crate::formula::Expr;
use crate::quantity::Overflow;
use crate::scenario::AttentionImplementation;

/// Whether two widths are the same number under the same name, wherever they come from.
fn is_same(one: &Expr, other: &Expr) -> bool {
    match (one, other) {
        (Expr::Leaf(one), Expr::Leaf(other)) => one.value == other.value && one.name == other.name,
        (Expr::CeilDiv(a, b), Expr::CeilDiv(c, d)) => is_same(a, c) && is_same(b, d),
        (Expr::Product(a), Expr::Product(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b)),
        _ => one == other,
    }
}

/// What a size is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// Each token.
    Token,
    /// Each token of one sequence, the same for all sequences.
    Position,
    /// The pass, however many tokens it has.
    Pass,
}

/// Bytes of values: so many for each element of a width.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Size {
    of: Of,
    width: Expr,
    bytes: u64,
}

impl Size {
    /// `16 B × 4,096 hidden_size`, or `8 B`.
    fn expr(&self) -> Expr {
        let bytes = Expr::named(self.bytes, "B");
        if self.width == Expr::constant(1) { bytes } else { Expr::Product(vec![bytes, self.width.clone()]) }
    }

    /// In a pass.
    pub fn in_pass(&self, tokens: &Tokens) -> Expr {
        tokens.times(self.of, self.expr())
    }
}

/// The tokens of a pass.
#[derive(Clone, Debug)]
pub(super) struct Tokens {
    /// All of them.
    pub all: Expr,
    /// The sequences among the factors of that.
    pub rows: Expr,
}

impl Tokens {
    fn times(&self, of: Of, size: Expr) -> Expr {
        let mut factors = match (of, &self.all) {
            (Of::Pass, _) => return size,
            (Of::Position, Expr::Product(factors)) => factors.clone(),
            (Of::Position | Of::Token, all) => vec![all.clone()],
        };
        if of == Of::Position
            && let Some(rows) = factors.iter().position(|factor| *factor == self.rows)
        {
            factors.remove(rows);
        }
        factors.push(size);
        Expr::Product(factors)
    }

    /// The bytes of lists, each so many times.
    pub fn bytes(&self, lists: &[(Option<Expr>, &PerToken)]) -> Vec<Expr> {
        let all = [Of::Token, Of::Position, Of::Pass].into_iter().filter_map(|of| {
            let list = |(times, list): &(Option<Expr>, &PerToken)| {
                let bytes = list.expr(of)?;
                Some(times.as_ref().map_or_else(|| bytes.clone(), |times| Expr::Product(vec![times.clone(), bytes.clone()])))
            };
            let sizes: Vec<Expr> = lists.iter().filter_map(list).collect();
            (!sizes.is_empty()).then(|| self.times(of, Expr::sum(sizes)))
        });
        all.collect()
    }
}

/// Bytes of one token, and of what tokens share: multiples of widths.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct PerToken(Vec<Size>);

impl PerToken {
    /// `bytes` for each element of `width`.
    pub fn add(&mut self, width: &Expr, bytes: u64) {
        self.add_of(Of::Token, width, bytes);
    }

    /// The same of what tokens may share.
    pub fn add_of(&mut self, of: Of, width: &Expr, bytes: u64) {
        match self.0.iter_mut().find(|known| known.of == of && is_same(&known.width, width)) {
            _ if bytes == 0 => {}
            Some(known) => known.bytes = known.bytes.saturating_add(bytes),
            None => self.0.push(Size { of, width: width.clone(), bytes }),
        }
    }

    /// Everything of another list.
    pub fn add_all(&mut self, other: &Self) {
        for Size { of, width, bytes } in &other.0 {
            self.add_of(*of, width, *bytes);
        }
    }

    /// This list without what is in the other, and what of the other is not in this one.
    pub fn less(&self, other: &Self) -> (Self, Self) {
        let (mut rest, mut missing) = (self.clone(), Self::default());
        for Size { of, width, bytes } in &other.0 {
            let known = rest.0.iter_mut().find(|known| known.of == *of && is_same(&known.width, width));
            let both = known.as_ref().map_or(0, |known| known.bytes.min(*bytes));
            if let Some(known) = known {
                known.bytes -= both;
            }
            missing.add_of(*of, width, bytes - both);
        }
        rest.0.retain(|size| size.bytes > 0);
        (rest, missing)
    }

    /// `16 B × 4,096 hidden_size + 8 B × 14,336 intermediate_size + 8 B`
    fn expr(&self, of: Of) -> Option<Expr> {
        let sizes: Vec<Expr> = self.0.iter().filter(|size| size.of == of).map(Size::expr).collect();
        (!sizes.is_empty()).then(|| Expr::sum(sizes))
    }

    /// True when there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of one token.
    pub fn bytes(&self) -> Result<u64, Overflow> {
        self.expr(Of::Token).map_or(Ok(0), |bytes| bytes.evaluate())
    }
}

/// How the pass is computed.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of modelling code")]
pub(super) struct Rules {
    /// Bytes of a value that a matrix product gives.
    pub compute: u64,
    /// Whether matrices are cast by autocast while everything else stays in float32.
    pub autocast: bool,
    /// Bytes of a product's input as it is kept: 1 in FP8, else as it is.
    pub fp8: bool,
    /// Whether norms and activations are fused.
    pub fused: bool,
    /// How attention is computed.
    pub attention: AttentionImplementation,
    /// Tokens of one sequence.
    pub sequence: Expr,
    /// Sequences of the pass.
    pub rows: Expr,
    /// Bytes of an adapter's values.
    pub adapter: u64,
    /// Whether autocast lowers what adapters work with.
    pub lowers_adapters: bool,
    /// Whether adapters have a dropout.
    pub adapter_dropout: bool,
    /// Whether blocks' results pass a dropout.
    pub hidden_dropout: bool,
    /// Whether attention's probabilities pass a dropout.
    pub attention_dropout: bool,
    /// Whether attention's scores are capped.
    pub caps_scores: bool,
    /// Whether softmax is computed in float32 when attention is written out.
    pub softmax_in_float32: bool,
}

impl Rules {
    /// Bytes of the hidden state between blocks.
    pub const fn stream(&self) -> u64 {
        if self.autocast { 4 } else { self.compute }
    }
}

/// A tensor of the pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value(usize);

struct Held {
    width: Expr,
    bytes: u64,
    needs_gradient: bool,
    is_kept: bool,
}

/// A matrix of the pass.
#[derive(Clone, Debug)]
pub(super) struct Linear {
    /// Elements of its result.
    pub outputs: Expr,
    /// Whether the matrix is trained.
    pub is_trained: bool,
    /// The rank of its adapter.
    pub rank: Option<Expr>,
    /// Whether the adapter has magnitudes (DoRA).
    pub magnitudes: bool,
    /// Learned factors, on the input (true) or the output (false).
    pub factors: Option<bool>,
}

/// The kinds of norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NormKind {
    /// Root mean square, the weight applied in the type of computation.
    Rms,
    /// The same with everything in float32 (Gemma).
    RmsFloat,
    /// The first with the values as they came multiplied by a float32 factor (T5), so that they are kept too.
    RmsWidened,
    /// Mean and variance: one operator.
    Layer,
    /// The same written out in float32: the centred values twice, and the normalised ones.
    LayerFloat,
}

/// What is added to the scores of an attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mask {
    /// Nothing: at most that later tokens are not seen, which kernels know themselves.
    None,
    /// Which tokens are seen, made into numbers for a kernel by each layer (torch 2.15 `attention.cpp:convert_boolean_attn_mask`).
    Seen,
    /// A number for each head too, which of them are seen kept beside.
    OfHeads,
    /// A learned value for each distance, made for each layer, one for all sequences (transformers 5.23 `create_position_bias_mask`);
    /// true where later tokens are not seen.
    Distances(bool),
    /// What another layer keeps.
    Elsewhere,
}

/// A pass that is being written down.
pub(super) struct Tape<'r> {
    pub rules: &'r Rules,
    values: Vec<Held>,
    saved: PerToken,
    selected: PerToken,
    products: u64,
    widest: Vec<Size>,
}

/// What a pass keeps.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Kept {
    /// For its backward.
    pub saved: PerToken,
    /// When only attention's results and every second product are kept.
    pub selected: PerToken,
    /// Gradients in flight in its backward: candidates, of which the largest counts.
    pub working: Vec<Size>,
    /// Whether its input is among what is kept.
    pub has_input: bool,
}

impl<'r> Tape<'r> {
    pub fn new(rules: &'r Rules) -> Self {
        Self { rules, values: Vec::new(), saved: PerToken::default(), selected: PerToken::default(), products: 0, widest: Vec::new() }
    }

    pub fn finish(self) -> Kept {
        Kept { saved: self.saved, selected: self.selected, working: self.widest, has_input: false }
    }

    /// A new tensor.
    pub fn value(&mut self, width: Expr, bytes: u64, needs_gradient: bool) -> Value {
        self.values.push(Held { width, bytes, needs_gradient, is_kept: false });
        Value(self.values.len() - 1)
    }

    pub fn needs_gradient(&self, value: Value) -> bool {
        self.values[value.0].needs_gradient
    }

    pub fn width(&self, value: Value) -> Expr {
        self.values[value.0].width.clone()
    }

    pub fn bytes(&self, value: Value) -> u64 {
        self.values[value.0].bytes
    }

    /// Keeps a tensor, once.
    pub fn save(&mut self, value: Value) {
        let held = &mut self.values[value.0];
        if !held.is_kept {
            held.is_kept = true;
            self.saved.add(&held.width, held.bytes);
        }
    }

    /// Keeps a tensor that others keep already, as of an encoder that all layers read.
    pub fn is_kept_elsewhere(&mut self, value: Value) {
        self.values[value.0].is_kept = true;
    }

    /// Whether a tensor is kept, here or elsewhere.
    pub fn is_kept(&self, value: Value) -> bool {
        self.values[value.0].is_kept
    }

    /// The same tensor on the tape of what comes next: what is kept here is not kept again.
    pub fn carry(&self, value: Value, next: &mut Tape) -> Value {
        let Held { width, bytes, needs_gradient, is_kept } = &self.values[value.0];
        next.values.push(Held { width: width.clone(), bytes: *bytes, needs_gradient: *needs_gradient, is_kept: *is_kept });
        Value(next.values.len() - 1)
    }

    /// Keeps something that is no tensor of the pass (masks, statistics).
    pub fn keep(&mut self, width: &Expr, bytes: u64) {
        self.saved.add(width, bytes);
    }

    /// The same of what tokens share.
    pub fn keep_of(&mut self, of: Of, width: &Expr, bytes: u64) {
        self.saved.add_of(of, width, bytes);
    }

    /// Keeps so many bytes per token.
    pub fn keep_bytes(&mut self, bytes: u64) {
        self.saved.add(&Expr::constant(1), bytes);
    }

    /// Keeps a tensor when operators are chosen one by one; of one without a gradient nothing is.
    pub fn select(&mut self, value: Value) {
        let held = &self.values[value.0];
        if held.needs_gradient {
            self.selected.add(&held.width, held.bytes);
        }
    }

    /// A gradient of this width is in flight in the backward pass.
    pub fn works_with(&mut self, width: Expr, bytes: u64) {
        self.widest.push(Size { of: Of::Token, width, bytes });
    }

    /// The same tensor in another type: itself where it has it.
    pub fn cast(&mut self, value: Value, bytes: u64) -> Value {
        let held = &self.values[value.0];
        if held.bytes == bytes {
            return value;
        }
        let (width, needs_gradient) = (held.width.clone(), held.needs_gradient);
        self.value(width, bytes, needs_gradient)
    }

    /// As autocast casts for a matrix product.
    fn lowered(&mut self, value: Value) -> Value {
        if self.rules.autocast { self.cast(value, self.rules.compute) } else { value }
    }

    /// A tensor like another with a width of its own.
    pub fn like(&mut self, value: Value, width: Expr) -> Value {
        let (bytes, needs_gradient) = (self.bytes(value), self.needs_gradient(value));
        self.value(width, bytes, needs_gradient)
    }

    /// A matrix product, with what adapts it.
    pub fn linear(&mut self, input: Value, linear: &Linear) -> Value {
        let mut input = input;
        if linear.factors == Some(true) {
            // IA3 on a feed-forward: the input times learned factors.
            self.save(input);
            input = self.like(input, self.width(input));
            self.values[input.0].needs_gradient = true;
        }
        let lowered = self.lowered(input);
        if linear.is_trained {
            if self.rules.fp8 {
                let width = self.width(lowered);
                self.keep(&width, 1);
            } else {
                self.save(lowered);
            }
        }
        self.products += 1;
        let is_adapted = linear.rank.is_some() || linear.factors == Some(false);
        let needs_gradient = self.needs_gradient(input) || linear.is_trained;
        let product = self.value(linear.outputs.clone(), self.rules.compute, needs_gradient);
        if self.products % 2 == 1 {
            self.select(product);
        }
        if !is_adapted {
            return product;
        }
        if linear.factors == Some(false) {
            self.save(product);
        }
        if let Some(rank) = &linear.rank {
            self.low_rank(input, product, rank, linear);
        }
        self.value(linear.outputs.clone(), self.rules.compute, true)
    }

    /// `B(A(dropout(x))) × scale`, in the adapter's own type.
    fn low_rank(&mut self, input: Value, product: Value, rank: &Expr, linear: &Linear) {
        let adapter = self.rules.adapter;
        let mut own = self.cast(input, adapter);
        if self.rules.adapter_dropout {
            let width = self.width(input);
            self.keep(&width, 1);
            own = self.value(width, adapter, self.needs_gradient(input));
        }
        let bytes = if self.rules.autocast || self.rules.lowers_adapters { self.rules.compute } else { adapter };
        let own = if bytes == adapter { own } else { self.cast(own, bytes) };
        self.save(own);
        let inner = self.value(rank.clone(), bytes, true);
        self.save(inner);
        if linear.magnitudes {
            // (magnitude / norm - 1) × product + magnitude / norm × B(A(x)) × scale: both factors' other sides are kept.
            self.save(product);
            self.keep(&linear.outputs, bytes);
        }
    }

    /// A norm of `rows` vectors per token.
    pub fn norm(&mut self, input: Value, kind: NormKind, rows: &Expr, is_trained: bool) -> Value {
        let width = self.width(input);
        let needs_gradient = self.needs_gradient(input);
        let bytes = self.bytes(input);
        let is_needed = needs_gradient || is_trained;
        let weight = self.rules.stream();
        if self.rules.fused {
            if is_needed {
                self.save(input);
                self.keep(rows, if matches!(kind, NormKind::Layer | NormKind::LayerFloat) { 8 } else { 4 });
            }
            return self.value(width, bytes, is_needed);
        }
        match kind {
            NormKind::Layer => {
                let input = if self.rules.autocast { self.cast(input, 4) } else { input };
                if is_needed {
                    self.save(input);
                    self.keep(rows, 8);
                }
                self.value(width, self.bytes(input), is_needed)
            }
            NormKind::LayerFloat => {
                if needs_gradient {
                    self.keep(&width, 8);
                    self.keep(rows, 4);
                }
                if is_trained {
                    self.keep(&width, 4);
                }
                self.value(width, bytes, is_needed)
            }
            NormKind::Rms | NormKind::RmsFloat | NormKind::RmsWidened => {
                if needs_gradient {
                    if kind == NormKind::RmsWidened {
                        self.save(input);
                    }
                    let wide = self.cast(input, 4);
                    self.save(wide);
                    self.keep(rows, 4);
                }
                let (normed, out) = if kind == NormKind::RmsFloat { (4, bytes) } else { (bytes, bytes.max(weight)) };
                if is_trained {
                    self.keep(&width, normed);
                }
                self.value(width, out, is_needed)
            }
        }
    }

    /// A dropout, where the pass has them.
    pub fn dropout(&mut self, value: Value) -> Value {
        if !self.rules.hidden_dropout || !self.needs_gradient(value) {
            return value;
        }
        let width = self.width(value);
        self.keep(&width, 1);
        self.like(value, width)
    }

    /// Queries, keys and values to a result of this width. `wide` are the widths of keys and values where they are copied so that every
    /// query head has its own.
    pub fn attention(&mut self, made: [Value; 3], heads: &Expr, wide: Option<[&Expr; 2]>, mask: Mask, result: Expr) -> Value {
        let keys = self.rules.sequence.clone();
        self.attention_to(made, heads, wide, mask, (&keys, result))
    }

    /// The same with so many keys.
    pub fn attention_to(
        &mut self,
        [query, key, value]: [Value; 3],
        heads: &Expr,
        wide: Option<[&Expr; 2]>,
        mask: Mask,
        (keys, result): (&Expr, Expr),
    ) -> Value {
        let [query, key, value] = [query, key, value].map(|one| self.lowered(one));
        let needs_gradient = [query, key, value].into_iter().any(|one| self.needs_gradient(one));
        let is_eager = self.rules.attention == AttentionImplementation::Eager;
        let (mut key, mut value) = (key, value);
        // Parts of one tensor stay in it.
        if let Some([keys, values]) = wide.filter(|_| key != query) {
            key = self.like(key, keys.clone());
            value = self.like(value, values.clone());
        }
        let result = self.value(result, self.rules.compute, needs_gradient);
        self.select(result);
        if !needs_gradient {
            return result;
        }
        for one in [query, key, value] {
            self.save(one);
        }
        if !is_eager {
            self.save(result);
            self.keep(heads, 4);
            self.selected.add(heads, 4);
            if self.rules.attention == AttentionImplementation::Sdpa {
                self.mask(mask, heads, keys);
            }
            return result;
        }
        let scores = Expr::Product(vec![heads.clone(), keys.clone()]);
        let compute = self.rules.compute;
        let wide = if self.rules.softmax_in_float32 { 4 } else { compute };
        if self.rules.caps_scores {
            self.keep(&scores, compute);
        }
        self.keep(&scores, wide);
        if wide != compute {
            self.keep(&scores, compute);
        }
        if self.rules.attention_dropout {
            self.keep(&scores, 1 + if wide == compute { compute } else { 0 });
        }
        self.works_with(scores, 4);
        result
    }

    /// What a kernel adds to the scores, which its backward reads.
    fn mask(&mut self, mask: Mask, heads: &Expr, keys: &Expr) {
        match mask {
            Mask::None | Mask::Elsewhere => {}
            Mask::Seen => self.keep(keys, self.rules.compute),
            Mask::OfHeads => {
                self.keep(&Expr::Product(vec![heads.clone(), keys.clone()]), self.rules.compute);
                self.keep(keys, 1);
            }
            Mask::Distances(is_causal) => {
                let scores = Expr::Product(vec![heads.clone(), keys.clone()]);
                self.keep_of(Of::Position, &scores, self.rules.compute);
                self.widest.push(Size { of: Of::Position, width: scores, bytes: self.rules.compute });
                if is_causal {
                    self.keep_of(Of::Position, keys, 1);
                }
            }
        }
    }
}
