//! What a network of convolutions keeps of its feature maps, per image: the tape of its operators, block by block.

use super::run::{Run, unsupported};
use super::tape::{Kept, Linear, NormKind, PerToken, Rules, Tape, Value};
use crate::formula::{Expr, Source};
use crate::model::{Images, Map, Role, Step};
use crate::quantity::Overflow;
use crate::runtime::EstimateError;
use crate::scenario::Method;

/// What the blocks keep one by one, each with the size of its input where a gradient flows, and what is kept outside of them.
pub(super) struct Maps {
    pub blocks: Vec<(Kept, PerToken)>,
    pub outside: PerToken,
    pub working: Vec<(Expr, u64)>,
}

/// Writes the network down for images of this size.
pub(super) fn walk(run: &Run, rules: &Rules, images: &Images, size: (u64, u64)) -> Result<Maps, EstimateError> {
    let mut maps = Maps { blocks: Vec::new(), outside: PerToken::default(), working: Vec::new() };
    let mut map = images.map(size);
    // The state of the map between tapes: its bytes, whether a gradient flows into it, whether it is kept already.
    let mut state = (rules.stream(), false, false);
    let all = images.steps();
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
        // Adapters are taken to read what whole matrices would.
        let mut network = Network { run, tape, is_trained: run.method == Method::Full || run.method.is_adapter() };
        let (last, after) = network.steps(steps, first, map)?;
        state = (network.tape.bytes(last), network.tape.needs_gradient(last), network.tape.is_kept(last));
        map = after;
        let kept = network.tape.finish();
        if is_block(&steps[0]) {
            maps.blocks.push((kept, input));
        } else {
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
    steps.chunk_by(|one, next| matches!((is_block(one), next), (true, Step::Rectifier)) || !is_block(one) && !is_block(next) && *one != Step::Rectifier)
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

struct Network<'r, 'a> {
    run: &'r Run<'a>,
    tape: Tape<'r>,
    is_trained: bool,
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
        let is_normed = self.is_trained || self.run.trains(Role::Norm, false);
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
            Step::Windows { heads, side, is_cosine } => self.windows(value, map, [*heads, *side], *is_cosine)?,
            Step::Scale => {
                if flows {
                    self.tape.save(value);
                }
                let wide = self.tape.bytes(value).max(self.tape.rules.stream());
                self.tape.value(elements(&map)?, wide, flows || self.is_trained)
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

    fn product(&mut self, value: Value, after: &Map) -> Result<Value, EstimateError> {
        let linear = Linear { outputs: elements(after)?, is_trained: self.is_trained, rank: None, magnitudes: false, factors: None };
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

    /// Attention within windows, written out: queries, keys, values, softmax.
    fn windows(&mut self, value: Value, map: Map, [heads, side]: [u64; 2], is_cosine: bool) -> Result<Value, EstimateError> {
        let side = side.min(map.width).min(map.height).max(1);
        let whole = map.in_windows(side).ok_or(Overflow)?;
        let per_pixel = |count: u64| elements(&Map { channels: count, ..whole });
        // Pixels are put in the order of windows: a copy.
        let read = self.tape.like(value, elements(&whole)?);
        let made = [(); 3].map(|()| self.product(read, &whole));
        for one in made {
            let one = one?;
            if self.tape.needs_gradient(one) {
                self.tape.save(one);
            }
        }
        let (low, flows) = (self.tape.rules.compute, self.tape.needs_gradient(read) || self.is_trained);
        let scores = per_pixel(heads.checked_mul(side.checked_mul(side).ok_or(Overflow)?).ok_or(Overflow)?)?;
        if flows {
            let softmax = if self.tape.rules.autocast { 4 + low } else { low };
            self.tape.keep(&scores, softmax);
            if is_cosine {
                // Queries and keys as they were and their lengths; scores before they are scaled.
                self.tape.keep(&elements(&whole)?, 2 * low);
                self.tape.keep(&per_pixel(heads)?, 4 * low);
                self.tape.keep(&scores, low);
            }
        }
        self.tape.works_with(scores, 2 * low);
        let context = self.tape.value(elements(&whole)?, low, flows);
        let result = self.product(context, &whole)?;
        Ok(self.tape.like(result, elements(&map)?))
    }

    fn gate(&mut self, value: Value, map: Map, inner: u64) -> Result<Value, EstimateError> {
        let (one, small) = (Map { width: 1, height: 1, ..map }, Map { channels: inner, width: 1, height: 1 });
        let means = self.tape.like(value, elements(&one)?);
        let reduced = self.product(means, &small)?;
        let active = self.kept_result(reduced, small)?;
        let expanded = self.product(active, &one)?;
        self.kept_result(expanded, one)?;
        if self.tape.needs_gradient(value) || self.is_trained {
            self.tape.save(value);
        }
        Ok(self.tape.like(value, elements(&map)?))
    }
}
