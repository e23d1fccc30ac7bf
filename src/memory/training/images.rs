//! What a network of convolutions keeps of its feature maps, per image: the tape of its operators, block by block.

use super::modules::{Module, is_feed_forward, modules, outside};
use super::run::{Run, unsupported};
use super::tape::{Kept, Linear, NormKind, PerToken, Rules, Size, Tape, Value};
use crate::formula::{Expr, Source};
use crate::model::{Component, Images, Map, Role, Step, Work};
use crate::quantity::Overflow;
use crate::runtime::EstimateError;
use crate::scenario::{AttentionImplementation, Checkpointing};
use std::collections::{BTreeMap, VecDeque};

/// A block of a network.
pub(super) struct Block {
    pub kept: Kept,
    /// Its input, where a gradient flows into it.
    pub input: PerToken,
    /// Blocks with nothing between them are of one stage.
    pub stage: usize,
    /// Whether it is computed again on its own, not as a part of its stage.
    pub is_layer: bool,
}

/// What the blocks keep one by one, each with the size of its input where a gradient flows, and what is kept outside of them.
pub(super) struct Maps {
    pub blocks: Vec<Block>,
    pub outside: PerToken,
    pub working: Vec<Size>,
}

/// Writes the network down for images of this size.
pub(super) fn walk(run: &Run, rules: &Rules, images: &Images, size: (u64, u64)) -> Result<Maps, EstimateError> {
    let mut maps = Maps { blocks: Vec::new(), outside: PerToken::default(), working: Vec::new() };
    let mut map = images.map(size);
    // The state of the map between tapes: its bytes, whether a gradient flows into it, whether it is kept already.
    let mut state = (rules.stream(), false, false);
    let all = images.steps();
    let mut stage = 0;
    let found = products(run.model.decoder());
    let mut products = found.used.iter();
    for steps in blocks(&all) {
        let mut tape = Tape::new(rules);
        let first = tape.value(elements(&map)?, state.0, state.1);
        if state.2 {
            tape.is_kept_elsewhere(first);
        }
        let mut input = PerToken::default();
        if state.1 {
            input.add(&elements(&map)?, state.0);
        }
        let mut network = Network { run, tape, products };
        let (last, after) = network.steps(steps, first, map)?;
        state = (network.tape.bytes(last), network.tape.needs_gradient(last), network.tape.is_kept(last));
        map = after;
        products = network.products;
        let kept = network.tape.finish();
        if is_block(&steps[0]) {
            maps.blocks.push(Block { kept, input, stage, is_layer: true });
        } else if run.checkpointing == Checkpointing::Full && steps.contains(&Step::Fold) {
            // Swin's stages end with what halves the map.
            maps.blocks.push(Block { kept, input, stage, is_layer: false });
            stage += 1;
        } else {
            stage += 1;
            maps.outside.add_all(&kept.saved);
            maps.working.extend(kept.working);
        }
    }
    Ok(maps)
}

const fn is_block(step: &Step) -> bool {
    matches!(step, Step::Residual { .. } | Step::Dense(_))
}

/// The steps in stretches: each block with the activation behind it, and what is between blocks.
fn blocks(steps: &[Step]) -> impl Iterator<Item = &[Step]> {
    // Attention within windows and the matrices behind it are one layer.
    let belongs = |one: &Step, next: &Step| *next == Step::Rectifier || is_block(next) && attends(std::slice::from_ref(one)).is_some();
    steps.chunk_by(move |one, next| is_block(one) && belongs(one, next) || !is_block(one) && !is_block(next) && *one != Step::Rectifier)
}

/// Whether there is attention among these steps: whether it is that of Swin 2.
pub(super) fn attends(steps: &[Step]) -> Option<bool> {
    steps.iter().find_map(|step| match step {
        Step::Windows { is_cosine, .. } => Some(*is_cosine),
        Step::Residual { body, shortcut } => attends(body).or_else(|| attends(shortcut)),
        Step::Dense(body) => attends(body),
        _ => None,
    })
}

/// Values of a map.
fn elements(map: &Map) -> Result<Expr, EstimateError> {
    let channels = Expr::leaf(map.channels, "channels", Source::Config("widths of the stages".into()));
    let pixels = map.width.checked_mul(map.height).ok_or(Overflow)?;
    if pixels == 1 {
        return Ok(channels);
    }
    let pixels = Expr::leaf(pixels, "pixels", Source::Derived(format!("a map of {} × {}", map.width, map.height).into()));
    Ok(Expr::Product(vec![channels, pixels]))
}

/// One value per pixel.
fn pixels(map: &Map) -> Result<Expr, EstimateError> {
    elements(&Map { channels: 1, ..*map })
}

/// The modules of a part outside of its layers.
pub(super) struct Products<'a> {
    /// Of a network of maps its matrices and convolutions in the order in which they are used, each with the channels that it reads.
    used: Vec<Option<Module<'a>>>,
    /// All others.
    others: Vec<Module<'a>>,
}

impl<'a> Products<'a> {
    /// Every module once.
    pub fn all(&self) -> impl Iterator<Item = &Module<'a>> {
        self.used.iter().flatten().chain(&self.others)
    }
}

/// Modules that are not used yet, by the channels that they make and the area of their windows, in their order.
type Left<'a> = BTreeMap<(u64, u64), VecDeque<Module<'a>>>;

/// The modules of a part outside of its layers: each product of a network of maps is the first of the right shape that is not used yet.
pub(super) fn products(component: &Component) -> Products<'_> {
    let all = outside(&component.tensors, component.hidden_size);
    let Work::Images(images) = &component.work else { return Products { used: Vec::new(), others: all } };
    let (products, mut others): (Vec<Module>, Vec<Module>) = all.into_iter().partition(Module::is_product);
    let mut left = Left::new();
    for module in products {
        left.entry(module.convolution.map_or((module.rows, 1), |of| (of.outputs, of.area))).or_default().push_back(module);
    }
    let mut used = Vec::new();
    let _ = find(&images.steps(), images.map(images.size), &mut left, &mut used);
    others.extend(left.into_values().flatten());
    Products { used, others }
}

/// Takes the module of one product.
fn take<'a>(left: &mut Left<'a>, found: &mut Vec<Option<Module<'a>>>, kernel: u64, [inputs, outputs]: [u64; 2]) {
    let is_it = |module: &Module| match module.convolution {
        Some(one) => one.of_group() > 0 && inputs.is_multiple_of(one.of_group()),
        None => module.columns == inputs,
    };
    let queue = left.get_mut(&(outputs, kernel.saturating_mul(kernel)));
    let module = queue.and_then(|queue| queue.iter().position(is_it).and_then(|at| queue.remove(at)));
    found.push(module.map(|module| Module { convolution: module.convolution.map(|one| one.reading(inputs)), ..module }));
}

/// The modules of some steps, and the map behind them; `None` where a map is too small.
fn find<'a>(steps: &[Step], mut map: Map, left: &mut Left<'a>, found: &mut Vec<Option<Module<'a>>>) -> Option<Map> {
    for step in steps {
        let width = map.channels;
        match step {
            Step::Convolution(window, outputs) => take(left, found, window.kernel, [width, *outputs]),
            Step::Windows { .. } => (0..4).for_each(|_| take(left, found, 1, [width, width])),
            Step::Gate(inner) => [[width, *inner], [*inner, width]].into_iter().for_each(|sides| take(left, found, 1, sides)),
            Step::Residual { body, shortcut } => {
                find(body, map, left, found)?;
                find(shortcut, map, left, found)?;
            }
            Step::Dense(body) => {
                find(body, map, left, found)?;
            }
            _ => {}
        }
        map = map.after(step)?;
    }
    Some(map)
}

/// PEFT spreads an adapter's rank over the groups of a convolution.
pub(super) fn check(run: &Run) -> Result<(), EstimateError> {
    if !run.method.is_low_rank() {
        return Ok(());
    }
    let rank = run.lora_rank.value;
    for component in run.model.anatomy.counted() {
        let layers = component.layers.iter().flat_map(|layers| modules(&layers.tensors, component.hidden_size));
        for module in products(component).all().copied().chain(layers) {
            if let Some(convolution) = module.convolution
                && run.adapts(&module)
                && !rank.is_multiple_of(convolution.groups)
            {
                let (path, groups) = (module.path, convolution.groups);
                return Err(unsupported(format!("{path} has {groups} groups: PEFT adapts it with ranks that they divide, and {rank} is none")));
            }
        }
    }
    Ok(())
}

struct Network<'r, 'a> {
    run: &'r Run<'a>,
    tape: Tape<'r>,
    products: std::slice::Iter<'r, Option<Module<'a>>>,
}

impl Network<'_, '_> {
    fn steps(&mut self, steps: &[Step], mut value: Value, mut map: Map) -> Result<(Value, Map), EstimateError> {
        for step in steps {
            (value, map) = self.step(step, value, map)?;
        }
        Ok((value, map))
    }

    fn step(&mut self, step: &Step, value: Value, map: Map) -> Result<(Value, Map), EstimateError> {
        let flows = self.tape.needs_gradient(value);
        let (is_normed, is_scaled) = (self.run.learns(Role::Norm, false), self.run.learns(Role::Other, false));
        let after = map.after(step).ok_or_else(|| unsupported("images of this size are too small or too large for this network".to_owned()))?;
        let result = match step {
            Step::Convolution(..) => self.product(value, &after)?,
            Step::BatchNorm => {
                if flows || is_normed {
                    self.tape.save(value);
                }
                let bytes = self.tape.bytes(value);
                self.tape.value(elements(&map)?, bytes, flows || is_normed)
            }
            Step::LayerNorm => self.tape.norm(value, NormKind::Layer, &pixels(&map)?, is_normed),
            Step::ResponseNorm => {
                // Means over pixels, and the product that the learned factor scales.
                let product = self.tape.like(value, elements(&map)?);
                if flows {
                    self.tape.save(value);
                    self.tape.save(product);
                }
                self.tape.like(value, elements(&map)?)
            }
            Step::Rectifier => self.kept_result(value, map)?,
            Step::Smooth => {
                if flows {
                    self.tape.save(value);
                }
                self.tape.like(value, elements(&map)?)
            }
            Step::MaxPool(_) => {
                if flows {
                    self.tape.save(value);
                    self.tape.keep(&elements(&after)?, 8); // where each came from
                }
                self.tape.like(value, elements(&after)?)
            }
            Step::AveragePool(_) | Step::AdaptivePool(_) => self.pooled(value, after)?,
            Step::Flatten => value,
            Step::GlobalPool | Step::Pad(_) | Step::PadSame(_) | Step::Fold => self.tape.like(value, elements(&after)?),
            Step::Windows { .. } => self.windows(value, map, step)?,
            Step::Scale => {
                if is_scaled {
                    self.tape.save(value);
                }
                let wide = self.tape.bytes(value).max(self.tape.rules.stream());
                self.tape.value(elements(&map)?, wide, flows || is_scaled)
            }
            Step::Dropout => {
                if flows {
                    self.tape.keep(&elements(&map)?, 1);
                }
                self.tape.like(value, elements(&map)?)
            }
            Step::Gate(inner) => self.gate(value, map, *inner)?,
            Step::Residual { body, shortcut } => {
                let (result, _) = self.steps(body, value, map)?;
                let (way, _) = self.steps(shortcut, value, map)?;
                let (bytes, flows) = (self.tape.bytes(result).max(self.tape.bytes(way)), self.tape.needs_gradient(result) || self.tape.needs_gradient(way));
                self.tape.value(elements(&after)?, bytes, flows)
            }
            Step::Dense(body) => {
                let (made, _) = self.steps(body, value, map)?;
                let flows = flows || self.tape.needs_gradient(made);
                self.tape.value(elements(&after)?, self.tape.bytes(made), flows)
            }
        };
        // A map's gradient beside the one that is made from it.
        self.tape.works_with(elements(&after)?, 2 * self.tape.bytes(result));
        Ok((result, after))
    }

    /// A matrix or a convolution. An adapter of a convolution goes down by its window and up by one pixel.
    fn product(&mut self, value: Value, after: &Map) -> Result<Value, EstimateError> {
        let module = self.products.next().copied().flatten();
        let adapted = module.filter(|module| self.run.adapts(module));
        let is_low_rank = self.run.method.is_low_rank();
        let rank = match adapted {
            Some(_) if is_low_rank => {
                let pixels = Expr::leaf(
                    after.width.saturating_mul(after.height),
                    "pixels",
                    Source::Derived(format!("a map of {} × {}", after.width, after.height).into()),
                );
                Some(Expr::Product(vec![self.run.lora_rank.leaf("rank"), pixels]))
            }
            _ => None,
        };
        let linear = Linear {
            outputs: elements(after)?,
            is_trained: self.run.learns(module.map_or(Role::Other, |module| module.role), false),
            magnitudes: rank.is_some() && self.run.has_magnitudes(),
            rank,
            factors: adapted.filter(|_| !is_low_rank).map(|module| is_feed_forward(&module)),
        };
        // The backward of a convolution reads its input even where its weight is frozen (derivatives.yaml, `convolution`).
        if module.is_some_and(|module| module.convolution.is_some()) && self.tape.needs_gradient(value) {
            let read = if self.tape.rules.autocast { self.tape.cast(value, self.tape.rules.compute) } else { value };
            self.tape.save(read);
            return Ok(self.tape.linear(read, &linear));
        }
        Ok(self.tape.linear(value, &linear))
    }

    /// An operator whose backward reads its result.
    fn kept_result(&mut self, value: Value, map: Map) -> Result<Value, EstimateError> {
        let result = self.tape.like(value, elements(&map)?);
        if self.tape.needs_gradient(value) {
            self.tape.save(result);
        }
        Ok(result)
    }

    /// Means of windows: their backward reads the input.
    fn pooled(&mut self, value: Value, after: Map) -> Result<Value, EstimateError> {
        if self.tape.needs_gradient(value) {
            self.tape.save(value);
        }
        Ok(self.tape.like(value, elements(&after)?))
    }

    /// Attention within windows: queries, keys, values, and softmax where it is written out, as in Swin 2 whatever is chosen.
    fn windows(&mut self, value: Value, map: Map, step: &Step) -> Result<Value, EstimateError> {
        let &Step::Windows { heads, side: asked, is_cosine, is_shifted } = step else { return Ok(value) };
        let side = asked.min(map.width).min(map.height).max(1);
        let whole = map.in_windows(side).ok_or(Overflow)?;
        let per_pixel = |count: u64| elements(&Map { channels: count, ..whole });
        let scores_of = |keys: u64| per_pixel(heads.checked_mul(keys).ok_or(Overflow)?);
        // Pixels are put in the order of windows: a copy.
        let read = self.tape.like(value, elements(&whole)?);
        let made = [(); 3].map(|()| self.product(read, &whole));
        let mut flows = self.tape.needs_gradient(read);
        for one in made {
            let one = one?;
            if self.tape.needs_gradient(one) {
                flows = true;
                self.tape.save(one);
            }
        }
        let low = self.tape.rules.compute;
        let pixels = side.checked_mul(side).ok_or(Overflow)?;
        let scores = scores_of(pixels)?;
        let context = self.tape.value(elements(&whole)?, low, flows);
        let is_written_out = is_cosine || self.tape.rules.attention == AttentionImplementation::Eager;
        if flows && is_written_out {
            let softmax = if self.tape.rules.autocast { 4 + low } else { low };
            self.tape.keep(&scores, softmax);
            if is_cosine {
                // Queries and keys as they were and their lengths; scores before they are scaled.
                self.tape.keep(&elements(&whole)?, 2 * low);
                self.tape.keep(&per_pixel(heads)?, 4 * low);
                self.tape.keep(&scores, low);
            }
        } else if flows {
            // The memory-efficient kernel, the only one with a mask that has a gradient: its result, a sum for each of 32 queries, and
            // of windows that are moved the mask, its rows padded to 8 values.
            self.tape.save(context);
            let windows = Expr::leaf(whole.width / side * (whole.height / side), "windows", Source::Derived("map / window_size".into()));
            let sums = Expr::leaf(heads.saturating_mul(pixels.next_multiple_of(32)), "heads × queries", Source::Derived("padded to 32 queries".into()));
            self.tape.keep(&Expr::Product(vec![sums, windows]), 4);
            if is_shifted && map.width.min(map.height) > side {
                self.tape.keep(&scores_of(pixels.next_multiple_of(8))?, low);
            }
        }
        if is_written_out {
            self.tape.works_with(scores, 2 * low);
        }
        let result = self.product(context, &whole)?;
        Ok(self.tape.like(result, elements(&map)?))
    }

    fn gate(&mut self, value: Value, map: Map, inner: u64) -> Result<Value, EstimateError> {
        let (one, small) = (Map { width: 1, height: 1, ..map }, Map { channels: inner, width: 1, height: 1 });
        let means = self.tape.like(value, elements(&one)?);
        let reduced = self.product(means, &small)?;
        let active = self.kept_result(reduced, small)?;
        let expanded = self.product(active, &one)?;
        let gates = self.kept_result(expanded, one)?;
        let flows = self.tape.needs_gradient(value) || self.tape.needs_gradient(gates);
        if flows {
            self.tape.save(value);
        }
        let bytes = self.tape.bytes(value);
        Ok(self.tape.value(elements(&map)?, bytes, flows))
    }
}
