//! The compute graph, as far as it decides the length of the compute buffers: which values are made and dropped, layer by layer.
//!
//! Read from llama.cpp 0c1e57098: `llama-context.cpp` (`sched_reserve`: one micro-batch of prompt against full caches),
//! `llama-graph.cpp` (`build_attn`, `build_ffn`, `build_moe_ffn`), `models/*.cpp`, `ggml-backend.cpp` (splits, copies of inputs),
//! and checked against the sizes that its planner prints.

use super::pool::{Factor, Pool, Ticket, Value};
use super::style::Style;
use super::{Run, Spot};
use crate::model::{LayerRun, Mixer, Role, Span};
use crate::quantity::Overflow;

/// The longest each buffer gets.
pub(super) struct Buffers {
    /// One per device.
    pub devices: Vec<Pool>,
    /// The host's, pinned for the devices.
    pub host: Pool,
}

/// Alignment of buffers: `ggml-cuda.cu` 128, `ggml-cpu` 64.
const ALIGNMENT: (u64, u64) = (128, 64);

/// Copies of inputs where several devices work on different micro-batches at once (`GGML_SCHED_MAX_COPIES`).
const PIPELINE_COPIES: u64 = 4;

/// Inputs of the graph that layers read beside the hidden state, in the order in which attention asks for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    Positions,
    /// Where keys are written, by the span's kind.
    KeyRows(bool),
    ValueRows(bool),
    Mask(bool),
    OutputRows,
}

/// The walk over a graph.
pub(super) struct Graph<'a> {
    pub run: &'a Run<'a>,
    pub style: Style,
    /// Of each input.
    copies: u64,
    pools: Vec<Pool>,
    /// The pool that is worked in.
    at: usize,
    /// Inputs that are in the pool.
    inputs: Vec<(Input, Ticket)>,
    /// The hidden state that layers add to.
    pub residual: Option<Ticket>,
    /// Embeddings of the tokens on the host, until they were copied to where the first layer is computed.
    embeddings: Option<Ticket>,
    /// A norm that the device before made, where a layer starts with it.
    handed_norm: Option<Ticket>,
    /// The rows that are worked on: all tokens, and the outputs behind the last layer's attention.
    pub rows: Factor,
    /// The layer that is built.
    pub layer: u64,
}

/// The buffers of a run; `is_pipelined` when several devices work on different micro-batches at once.
pub(super) fn buffers(run: &Run, is_pipelined: bool) -> Result<Buffers, Overflow> {
    let mut pools: Vec<Pool> = run.devices.iter().map(|_| Pool::new(ALIGNMENT.0)).collect();
    pools.push(Pool::new(ALIGNMENT.1));
    let host = pools.len() - 1;
    let mut graph = Graph {
        run,
        copies: if is_pipelined { PIPELINE_COPIES } else { 1 },
        style: Style::of(run.model),
        pools,
        at: host,
        inputs: Vec::new(),
        residual: None,
        embeddings: None,
        handed_norm: None,
        rows: run.tokens,
        layer: 0,
    };
    graph.walk()?;
    let host = graph.pools.pop().unwrap_or(Pool::new(ALIGNMENT.1));
    Ok(Buffers { devices: graph.pools, host })
}

impl Graph<'_> {
    fn walk(&mut self) -> Result<(), Overflow> {
        let run = self.run;
        self.host_inputs()?;
        let last = run.layers.saturating_sub(1);
        for layer_run in &run.model.decoder().layers {
            let end = self.layer + layer_run.count;
            // States of the pool that were seen in this run, to skip what repeats.
            let mut seen: Vec<(usize, _)> = Vec::new();
            while self.layer < end {
                self.enter(run.spots.get(usize::try_from(self.layer).unwrap_or(usize::MAX)).copied().unwrap_or(Spot::Host), self.layer)?;
                self.layer(layer_run, self.layer == last)?;
                self.layer += 1;
                let Some(residual) = self.residual else { continue };
                let state = (self.at, self.pools[self.at].state(residual));
                let stretch = run.stretch(self.layer).min(end.min(last));
                if let Some(before) = seen.iter().position(|(_, known)| *known == state) {
                    let period = (seen.len() - before) as u64;
                    self.layer += stretch.saturating_sub(self.layer) / period * period;
                    seen.clear();
                } else {
                    seen.push((self.at, state));
                }
            }
        }
        self.enter(run.spots.last().copied().unwrap_or(Spot::Host), run.layers)?;
        self.output()
    }

    /// What the host prepares: ids, embeddings and the inputs of all layers.
    fn host_inputs(&mut self) -> Result<(), Overflow> {
        let copies = self.copies;
        let kinds = self.inputs_of(0..self.run.layers);
        let hidden = self.run.hidden;
        for _ in 0..copies {
            self.take(Value::new("token ids", &[self.run.tokens]))?;
            self.take(Value::new("embeddings given as input", &[hidden, self.run.tokens]))?;
        }
        for kind in kinds {
            let value = self.input_value(kind);
            for _ in 0..copies {
                self.take(value)?;
            }
        }
        if self.style.has_position_table {
            self.take(self.of_rows("looked-up positions", hidden))?;
        }
        self.embeddings = Some(self.take(self.of_rows("token embeddings", hidden))?);
        Ok(())
    }

    /// The inputs that layers of a range read, in their order.
    fn inputs_of(&self, layers: std::ops::Range<u64>) -> Vec<Input> {
        let mut kinds = Vec::new();
        let mut add = |kind| {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        };
        let mut first = 0;
        for run in &self.run.model.decoder().layers {
            let is_inside = first < layers.end && first + run.count > layers.start;
            first += run.count;
            if !is_inside {
                continue;
            }
            let Some(span) = run.layer.mixer.span() else { continue };
            let is_windowed = self.run.is_windowed(span);
            if self.style.is_rotated {
                add(Input::Positions);
            }
            add(Input::KeyRows(is_windowed));
            if !matches!(run.layer.mixer, Mixer::Latent(_)) {
                add(Input::ValueRows(is_windowed));
            }
            add(Input::Mask(is_windowed));
        }
        if layers.end == self.run.layers {
            add(Input::OutputRows);
        }
        kinds
    }

    fn input_value(&self, kind: Input) -> Value {
        let tokens = self.run.tokens;
        match kind {
            Input::Positions => Value::new("positions", &[tokens]),
            Input::KeyRows(_) => Value::new("row numbers of keys", &[tokens]).of_bytes(8),
            // Without flash attention values are stored transposed, one number per element.
            Input::ValueRows(_) if !self.run.has_flash => Value::new("row numbers of values", &[self.run.value_width, tokens]).of_bytes(8),
            Input::ValueRows(_) => Value::new("row numbers of values", &[tokens]).of_bytes(8),
            Input::Mask(is_windowed) => {
                Value::new("the attention mask", &[self.run.cells(is_windowed), tokens]).of_bytes(if self.run.has_flash { 2 } else { 4 })
            }
            Input::OutputRows => Value::new("row numbers of outputs", &[self.run.outputs]),
        }
    }

    /// Goes on in another pool, with what is needed there copied.
    fn enter(&mut self, spot: Spot, layer: u64) -> Result<(), Overflow> {
        let host = self.pools.len() - 1;
        let to = match spot {
            Spot::Device(device) => device,
            // What lies on the host is computed on the first device, with the weights copied there, when it pays.
            Spot::Host if self.run.offloads_operations() => 0,
            Spot::Host => host,
        };
        let is_resident = matches!(spot, Spot::Device(_));
        if to == self.at && self.residual.is_some() {
            return Ok(());
        }
        let hidden = self.run.hidden;
        let is_first = self.residual.is_none();
        let makes_norm = !is_first && self.style.has_pre_norms;
        if makes_norm {
            // A norm has no weights of its own: the device before makes it.
            self.take(self.of_rows("norm", hidden))?;
        }
        self.at = to;
        self.inputs.clear();
        let copies = if to == host { 1 } else { self.copies };
        let norm = makes_norm.then(|| self.of_rows("norm", hidden));
        let residual = self.of_rows("residual", hidden);
        self.handed_norm = norm.map(|norm| self.take_copies(norm, copies)).transpose()?.flatten();
        let mut kinds = if is_resident { self.inputs_of(layer..self.run.stretch(layer)) } else { Vec::new() };
        if self.run.no_kv_offload {
            // Writing a cache on the host cuts the graph: what is read behind the cut comes when a layer first reads it.
            kinds.retain(|kind| *kind == Input::Positions);
        }
        if is_first {
            self.residual = self.take_copies(residual, copies)?;
            if self.style.has_position_table {
                let positions = self.take(residual)?;
                self.give(positions);
            }
        }
        for kind in kinds {
            let value = self.input_value(kind);
            if let Some(ticket) = self.take_copies(value, copies)? {
                self.inputs.push((kind, ticket));
            }
        }
        if !is_first {
            self.residual = self.take_copies(residual, copies)?;
        }
        if copies > 1 {
            // Copies stay until the end, whoever reads them.
            self.inputs.clear();
            self.handed_norm = None;
        }
        Ok(())
    }

    /// The last of several equal copies.
    fn take_copies(&mut self, value: Value, copies: u64) -> Result<Option<Ticket>, Overflow> {
        let mut last = None;
        for _ in 0..copies {
            last = Some(self.take(value)?);
        }
        Ok(last)
    }

    /// One layer.
    fn layer(&mut self, run: &LayerRun, is_last: bool) -> Result<(), Overflow> {
        let mixed = self.mixer(run, is_last)?;
        let Some(mixed) = mixed else { return self.feed_forward(run, None, is_last) };
        self.feed_forward(run, Some(mixed), is_last)
    }

    /// The last norm and the logits; both are kept.
    fn output(&mut self) -> Result<(), Overflow> {
        let outputs = self.run.outputs;
        if self.style.has_layer_norms {
            let norm = self.take(self.of_rows("norm", self.run.hidden))?;
            if let Some(residual) = self.residual.replace(norm) {
                self.give(residual);
            }
        }
        if self.style.picks_rows_late {
            self.take(Value::new("last hidden states", &[self.run.hidden, outputs]))?;
        }
        self.multiply(Role::Head, Value::new("logits", &[self.run.vocabulary, outputs]))?;
        Ok(())
    }

    /// A value of 4-byte elements, `width` for each row.
    pub fn of_rows(&self, what: &'static str, width: Factor) -> Value {
        Value::new(what, &[width, self.rows])
    }

    /// The same with a width that is a product.
    pub fn of_heads(&self, what: &'static str, heads: Factor, width: Factor) -> Value {
        Value::new(what, &[heads, width, self.rows])
    }

    pub fn take(&mut self, value: Value) -> Result<Ticket, Overflow> {
        self.pools[self.at].take(value)
    }

    pub fn give(&mut self, ticket: Ticket) {
        self.pools[self.at].give(ticket);
    }

    pub fn give_all(&mut self, tickets: impl IntoIterator<Item = Ticket>) {
        for ticket in tickets {
            self.give(ticket);
        }
    }

    /// A product with a weight; a weight on the host is copied for as long as it takes.
    pub fn multiply(&mut self, role: Role, value: Value) -> Result<Ticket, Overflow> {
        let staged = match self.run.staged_bytes(self.layer, role) {
            0 => None,
            bytes => Some(self.take(Value::new("a weight copied from the host", &[Factor::of(bytes, "")]).of_bytes(1))?),
        };
        let product = self.take(value)?;
        if let Some(staged) = staged {
            self.give(staged);
        }
        Ok(product)
    }

    /// The norm before a mixer or feed-forward: from the device before, or made here.
    pub fn norm(&mut self) -> Result<Ticket, Overflow> {
        match self.handed_norm.take() {
            Some(norm) => Ok(norm),
            None => self.take(self.of_rows("norm", self.run.hidden)),
        }
    }

    /// Makes sure that an input of a layer whose weights or cache lie on the host is here.
    pub fn need(&mut self, kind: Input) -> Result<(), Overflow> {
        if self.run.reads_host_cache(self.layer) && !self.inputs.iter().any(|(known, _)| *known == kind) {
            let ticket = self.take(self.input_value(kind))?;
            self.inputs.push((kind, ticket));
        }
        Ok(())
    }

    /// New keys and values of a layer on their way to caches on the host.
    pub fn write_host_cache(&mut self, values: &[Value]) -> Result<(), Overflow> {
        let host = self.pools.len() - 1;
        if !self.run.no_kv_offload || self.at == host {
            return Ok(());
        }
        let pool = &mut self.pools[host];
        if let Some(embeddings) = self.embeddings.take() {
            pool.give(embeddings);
        }
        let written: Vec<Ticket> = values.iter().map(|value| pool.take(*value)).collect::<Result<_, _>>()?;
        for ticket in written {
            pool.give(ticket);
        }
        Ok(())
    }

    /// Drops an input behind the last layer of this pool that reads it.
    pub fn drop_input(&mut self, kind: Input) {
        if let Some(index) = self.inputs.iter().position(|(known, _)| *known == kind) {
            let (_, ticket) = self.inputs.swap_remove(index);
            self.give(ticket);
        }
    }

    /// Drops the inputs that attention of a span read for the last time: no later layer of this pool reads them.
    pub fn drop_read(&mut self, span: Span) {
        let end = self.run.stretch(self.layer);
        // Layers on the host are followed by those of the first device in the same pool.
        let end = if self.run.is_on_host(self.layer) { self.run.stretch(end) } else { end };
        let read_later = if self.layer + 1 < end { self.inputs_of(self.layer + 1..end) } else { Vec::new() };
        let is_windowed = self.run.is_windowed(span);
        for kind in [Input::Positions, Input::KeyRows(is_windowed), Input::ValueRows(is_windowed), Input::Mask(is_windowed)] {
            if !read_later.contains(&kind) {
                self.drop_input(kind);
            }
        }
    }

    /// In the last layer only the rows that give outputs go on: they are picked from the mixer's result and from the residual.
    pub fn pick_rows(&mut self, mixed: Ticket) -> Result<Ticket, Overflow> {
        if self.style.picks_rows_late {
            return Ok(mixed);
        }
        self.rows = self.run.outputs;
        let picked = self.take(self.of_rows("picked rows", self.run.hidden))?;
        self.give(mixed);
        let residual = self.take(self.of_rows("residual", self.run.hidden))?;
        if let Some(whole) = self.residual.replace(residual) {
            self.give(whole);
        }
        self.drop_input(Input::OutputRows);
        Ok(picked)
    }
}
