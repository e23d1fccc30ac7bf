//! What the mixer of a layer makes and drops.

use super::graph::{Graph, Input};
use super::pool::{Factor, Ticket, Value};
use super::style::{columns, has_fused_projection, rows};
use crate::model::{Attention, Keeps, LatentAttention, LayerRun, Mixer, Recurrence, RecurrenceKind, Role};
use crate::quantity::Overflow;

const HEADS: &str = "num_attention_heads";
const KV_HEADS: &str = "num_key_value_heads";
const HEAD_DIM: &str = "head_dim, or hidden_size / num_attention_heads";

fn heads(count: u64) -> Factor {
    Factor::config(count, "heads", HEADS)
}

fn kv_heads(count: u64) -> Factor {
    Factor::config(count, "KV heads", KV_HEADS)
}

fn head_dim(count: u64) -> Factor {
    Factor::config(count, "head_dim", HEAD_DIM)
}

/// A width that is read from the shape of a projection.
fn width(count: u64) -> Factor {
    Factor::config(count, "values per token", "the shapes of the layer's projections")
}

impl Graph<'_> {
    /// The mixer of a layer up to the residual: `None` for layers without one.
    pub(super) fn mixer(&mut self, run: &LayerRun, is_last: bool) -> Result<Option<Ticket>, Overflow> {
        match run.layer.mixer {
            Mixer::Attention(attention) => self.attention(run, &attention, is_last).map(Some),
            Mixer::Latent(latent) => self.latent(run, &latent, is_last).map(Some),
            Mixer::Recurrent(recurrence) | Mixer::Parallel(_, recurrence) => self.recurrence(run, &recurrence, is_last).map(Some),
            Mixer::None => Ok(None),
        }
    }

    fn attention(&mut self, run: &LayerRun, attention: &Attention, is_last: bool) -> Result<Ticket, Overflow> {
        let Attention { heads: query_heads, kv_heads: kv, key_dim, value_dim, span, keeps } = *attention;
        let (queries, keys, values) = (
            self.of_heads("queries", heads(query_heads), head_dim(key_dim)),
            self.of_heads("keys", kv_heads(kv), head_dim(key_dim)),
            self.of_heads("values", kv_heads(kv), head_dim(value_dim)),
        );
        let norm = if self.style.has_pre_norms { Some(self.norm()?) } else { None };
        // A parallel feed-forward reads the norm again.
        let is_norm_kept = self.style.is_parallel;
        let mut gate = None;
        let query;
        if has_fused_projection(run) {
            let all = self.multiply(Role::Qkv, self.of_rows("queries, keys and values", width(rows(run, Role::Qkv))))?;
            if let Some(norm) = norm.filter(|_| !is_norm_kept) {
                self.give(norm);
            }
            if self.style.is_rotated {
                query = self.take(queries)?;
                let key = self.take(keys)?;
                self.give(key);
                self.give(all);
            } else {
                query = all;
            }
        } else {
            let projected = rows(run, Role::Query);
            let has_gate = projected == 2 * query_heads * key_dim;
            let raw = if has_gate { self.of_rows("queries and their gates", width(projected)) } else { queries };
            let raw = self.multiply(Role::Query, raw)?;
            self.need(Input::Positions)?;
            query = if self.style.is_rotated || has_gate {
                let query = self.take(queries)?;
                if has_gate {
                    gate = Some(raw);
                } else {
                    self.give(raw);
                }
                query
            } else {
                raw
            };
            if keeps == Keeps::Own {
                let value = self.multiply(Role::Value, values)?;
                let raw = self.multiply(Role::Key, keys)?;
                if let Some(norm) = norm.filter(|_| !is_norm_kept) {
                    self.give(norm);
                }
                let key = if self.style.is_rotated {
                    let key = self.take(keys)?;
                    self.give(raw);
                    key
                } else {
                    raw
                };
                self.give(key);
                self.give(value);
            } else if let Some(norm) = norm.filter(|_| !is_norm_kept) {
                self.give(norm);
            }
        }
        if keeps == Keeps::Own {
            self.write_host_cache(&[keys, values])?;
        }
        let is_windowed = self.run.is_windowed(span);
        let cells = self.run.cells(is_windowed);
        let copies = self.cache_copies(&[("keys", kv, key_dim, self.run.kv.0), ("values", kv, value_dim, self.run.kv.1)], cells)?;
        self.need(Input::Mask(is_windowed))?;
        let out = self.of_heads("what attention gives", heads(query_heads), head_dim(value_dim));
        let mut mixed = if self.run.has_flash {
            // Kernels for whole prompts read 16-bit keys and values: others are converted behind the result.
            let mixed = self.take(out)?;
            let converted = self.run.converted(&[(kv, key_dim, self.run.kv.0), (kv, value_dim, self.run.kv.1)], cells);
            let behind = converted.map(|value| self.take(value)).transpose()?;
            self.give(query);
            self.give_all(behind);
            mixed
        } else {
            let scores = self.take(Value::new("attention scores", &[cells, self.rows, heads(query_heads)]))?;
            self.give_all(copies.first().copied());
            self.give(query);
            let mixed = self.take(out)?;
            self.give_all(copies.last().copied());
            self.give(scores);
            let joined = self.take(out)?;
            self.give(mixed);
            joined
        };
        self.give_all(copies);
        self.drop_read(span);
        if let Some(gate) = gate {
            let open = self.take(out)?;
            self.give(gate);
            self.give(mixed);
            mixed = open;
        }
        if is_norm_kept && let Some(norm) = norm {
            return self.parallel_feed_forward(run, norm, mixed, is_last);
        }
        self.project(mixed, is_last)
    }

    /// Keys and values that lie on the host, copied for one layer.
    fn cache_copies(&mut self, parts: &[(&'static str, u64, u64, crate::encoding::Encoding)], cells: Factor) -> Result<Vec<Ticket>, Overflow> {
        if !self.run.reads_host_cache(self.layer) {
            return Ok(Vec::new());
        }
        let mut copies = Vec::new();
        for (_, kv, dim, encoding) in parts {
            let bytes = encoding.bytes_for(
                kv.checked_mul(*dim).and_then(|n| n.checked_mul(cells.count)).and_then(|n| n.checked_mul(self.run.streams.count)).ok_or(Overflow)?,
            )?;
            copies.push(self.take(Value::new("keys or values copied from the host", &[Factor::of(bytes.get(), "")]).of_bytes(1))?);
        }
        Ok(copies)
    }

    /// The output projection, and in the last layer the rows that go on.
    fn project(&mut self, mixed: Ticket, is_last: bool) -> Result<Ticket, Overflow> {
        let projected = self.multiply(Role::AttentionOutput, self.of_rows("attention's projection", self.run.hidden))?;
        self.give(mixed);
        if is_last { self.pick_rows(projected) } else { Ok(projected) }
    }

    fn latent(&mut self, run: &LayerRun, latent: &LatentAttention, is_last: bool) -> Result<Ticket, Overflow> {
        let &LatentAttention { heads: count, kv_lora_rank, rope_dim, nope_dim, value_dim, span, .. } = latent;
        let heads = heads(count);
        let rank = Factor::config(kv_lora_rank, "kv_lora_rank", "kv_lora_rank");
        let rope = Factor::config(rope_dim, "rotary part", "qk_rope_head_dim");
        let both = Factor::config(kv_lora_rank + rope_dim, "latent and rotary part", "kv_lora_rank + qk_rope_head_dim");
        let value = Factor::config(value_dim, "v_head_dim", "v_head_dim");
        let norm = self.norm()?;
        let whole = self.of_heads("queries", heads, Factor::config(nope_dim + rope_dim, "head_dim", "qk_nope_head_dim + qk_rope_head_dim"));
        let query_rank = columns(run, Role::Query);
        let raw = if query_rank > 0 && query_rank != self.run.hidden.count {
            let compressed = self.multiply(Role::LatentDown, self.of_rows("compressed queries", Factor::config(query_rank, "q_lora_rank", "q_lora_rank")))?;
            let raw = self.multiply(Role::Query, whole)?;
            self.give(compressed);
            raw
        } else {
            self.multiply(Role::Query, whole)?
        };
        let absorbed = self.multiply(Role::LatentUp, self.of_heads("queries in the latent", heads, rank))?;
        self.need(Input::Positions)?;
        let rotated = self.take(self.of_heads("rotary queries", heads, rope))?;
        self.give(raw);
        let query = self.take(self.of_heads("queries in the latent", heads, both))?;
        self.give(absorbed);
        self.give(rotated);
        let compressed = self.multiply(Role::LatentDown, self.of_rows("latents", both))?;
        self.give(norm);
        let normed = self.take(self.of_rows("latents", rank))?;
        let rotary = self.take(self.of_rows("rotary keys", rope))?;
        self.give(compressed);
        let keys = self.of_rows("keys", both);
        let key = self.take(keys)?;
        self.give(normed);
        self.give(rotary);
        self.give(key);
        self.write_host_cache(&[keys])?;
        let is_windowed = self.run.is_windowed(span);
        let cells = self.run.cells(is_windowed);
        // Values are a view of the latents, which is copied as if it were another tensor.
        let part = ("latents", 1, kv_lora_rank + rope_dim, self.run.kv.0);
        let copies = self.cache_copies(&[part, part], cells)?;
        self.need(Input::Mask(is_windowed))?;
        let attended = self.of_heads("attended latents", heads, rank);
        let out = self.of_heads("what attention gives", heads, value);
        let mixed = if self.run.has_flash {
            let mixed = self.take(attended)?;
            let converted = self.run.converted(&[(1, kv_lora_rank + rope_dim, self.run.kv.0)], cells);
            let behind = converted.map(|value| self.take(value)).transpose()?;
            self.give(query);
            self.give_all(behind);
            mixed
        } else {
            // The latents lie row by row, and are wanted column by column.
            let turned = Value::new("latents turned round", &[rank, cells]).of_bytes(2);
            let turned_first = if copies.is_empty() { None } else { Some(self.take(turned)?) };
            self.give_all(copies.first().copied());
            let scores = self.take(Value::new("attention scores", &[cells, self.rows, heads]))?;
            self.give_all(copies.last().copied());
            self.give(query);
            let turned = turned_first.map_or_else(|| self.take(turned), Ok)?;
            let mixed = self.take(attended)?;
            self.give(scores);
            self.give(turned);
            mixed
        };
        self.give_all(copies);
        self.drop_read(span);
        let up = self.multiply(Role::LatentUp, out)?;
        self.give(mixed);
        let joined = self.take(out)?;
        self.give(up);
        self.project(joined, is_last)
    }

    fn recurrence(&mut self, run: &LayerRun, recurrence: &Recurrence, is_last: bool) -> Result<Ticket, Overflow> {
        let &Recurrence { kind, conv_channels, conv_kernel, state, .. } = recurrence;
        let sequences = self.run.sequences;
        let channels = Factor::config(conv_channels, "convolution channels", "the shapes of the layer's projections");
        let past = Factor::config(conv_kernel.saturating_sub(1), "past tokens", "conv_kernel");
        let inner = width(columns(run, Role::MixerOutput).max(columns(run, Role::AttentionOutput)));
        let state = Value::new("states", &[Factor::config(state, "state elements", "the shapes of the layer's states"), sequences]);
        let kept = Value::new("kept inputs of the convolution", &[channels, past, sequences]);
        let window = Factor::rule(self.rows.count + past.count * sequences.count, "tokens and kept ones", "micro-batch + what the convolution looks back");
        let convolved_input = Value::new("the convolution's input", &[channels, window]);
        let convolved = self.of_rows("what the convolution gives", channels);
        let hidden = self.run.hidden;
        // The convolution's last inputs are a view of all of them, which is copied at its full stride.
        for written in [convolved_input, state] {
            self.write_host_cache(&[written])?;
        }
        let mixed = match kind {
            RecurrenceKind::ShortConvolution => {
                let norm = self.norm()?;
                let projected = self.multiply(Role::MixerInput, self.of_rows("projected inputs", width(3 * hidden.count)))?;
                self.give(norm);
                let gated = self.take(convolved)?;
                let input = self.take(convolved_input)?;
                self.give(gated);
                let out = self.take(convolved)?;
                self.give(input);
                self.give(projected);
                out
            }
            RecurrenceKind::GatedDeltaNet | RecurrenceKind::KimiDelta => {
                let norm = self.norm()?;
                let key_width = width(conv_channels.saturating_sub(inner.count) / 2);
                let kept = self.take(kept)?;
                let projected = self.multiply(Role::MixerInput, self.of_rows("projected inputs", channels))?;
                let input = self.take(convolved_input)?;
                self.give(kept);
                self.give(projected);
                let old = self.take(state)?;
                let out = self.take(convolved)?;
                self.give(input);
                let mut pair = Vec::new();
                for what in ["queries", "keys"] {
                    let normed = self.take(self.of_rows(what, key_width))?;
                    if self.style.repeats_keys {
                        pair.push(self.take(self.of_rows(what, inner))?);
                        self.give(normed);
                    } else {
                        pair.push(normed);
                    }
                }
                let scanned = self.take(self.of_rows("what the recurrence gives", inner))?;
                let new = self.take(state)?;
                self.give_all(pair.into_iter().chain([out, old]));
                let normed = self.take(self.of_rows("normed outputs", inner))?;
                self.give(scanned);
                self.give(new);
                let gate = self.multiply(Role::MixerInput, self.of_rows("gates", inner))?;
                self.give(norm);
                let open = self.take(self.of_rows("gates", inner))?;
                self.give(gate);
                self.give(open);
                normed
            }
            _ => {
                let kept = self.take(kept)?;
                let norm = self.norm()?;
                let both = width(rows(run, Role::MixerInput));
                let projected = self.multiply(Role::MixerInput, self.of_rows("projected inputs", both))?;
                self.give(norm);
                let input = self.take(convolved_input)?;
                self.give(kept);
                let out = self.take(convolved)?;
                self.give(input);
                let steps = if kind == RecurrenceKind::Mamba1 { Some(self.take(self.of_rows("time steps", inner))?) } else { None };
                let scanned = self.take(self.of_rows("what the recurrence gives", inner))?;
                let new = self.take(state)?;
                self.give_all(steps);
                let gate = self.take(self.of_rows("gates", inner))?;
                self.give(projected);
                self.give(scanned);
                self.give(new);
                let gated = self.take(self.of_rows("gated outputs", inner))?;
                self.give(gate);
                self.give(out);
                gated
            }
        };
        let projected = self.multiply(Role::MixerOutput, self.of_rows("the mixer's projection", hidden))?;
        self.give(mixed);
        if is_last {
            return self.pick_rows(projected);
        }
        // The sum takes the residual's place.
        self.give(projected);
        match self.residual.take() {
            Some(residual) => Ok(residual),
            None => self.take(self.of_rows("residual", hidden)),
        }
    }
}
