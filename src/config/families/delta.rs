//! Kimi delta attention, in the ways that Kimi-K3 and Ling 2.5 (Bailing hybrid) project its gates.

use super::decoder::Tensors;
use crate::encoding::Encoding;
use crate::model::{Mixer, Recurrence, RecurrenceKind, Role};

/// A gate of as many elements as the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// One matrix.
    Full,
    /// Two matrices through the width of a head.
    LowRank,
}

/// Kimi delta attention: as many heads for queries and keys as for values.
pub struct Delta {
    pub heads: u64,
    pub head_dim: u64,
    pub kernel: u64,
    pub forget: Gate,
    pub output: Gate,
    /// Elements of `A_log` as the files have them.
    pub decays: u64,
}

impl Delta {
    /// Its tensors under `module`, where the projection back is called `output`.
    pub fn add(&self, tensors: &mut Tensors, module: &str, output: &str, hidden: u64) -> Mixer {
        let width = self.heads.saturating_mul(self.head_dim);
        for one in ["q", "k", "v"] {
            tensors.linear(&format!("{module}.{one}_proj"), hidden, width, false).convolution(
                &format!("{module}.{one}_conv1d"),
                &[width, 1, self.kernel],
                false,
            );
        }
        for (letter, gate) in [('f', self.forget), ('g', self.output)] {
            match gate {
                Gate::Full => _ = tensors.linear(&format!("{module}.{letter}_proj"), hidden, width, false),
                Gate::LowRank => {
                    tensors.linear(&format!("{module}.{letter}_a_proj"), hidden, self.head_dim, false).linear(
                        &format!("{module}.{letter}_b_proj"),
                        self.head_dim,
                        width,
                        false,
                    );
                }
            }
        }
        tensors
            .linear(&format!("{module}.b_proj"), hidden, self.heads, false)
            .tensor(&format!("{module}.A_log"), Role::Other, &[self.decays])
            .tensor(&format!("{module}.dt_bias"), Role::Other, &[width])
            .norm(&format!("{module}.o_norm"), self.head_dim, false)
            .linear(&format!("{module}.{output}"), width, hidden, false);
        Mixer::Recurrent(Recurrence {
            kind: RecurrenceKind::KimiDelta,
            conv_channels: width.saturating_mul(3),
            conv_kernel: self.kernel,
            state: width.saturating_mul(self.head_dim),
            state_dtype: Some(Encoding::F32),
        })
    }
}
