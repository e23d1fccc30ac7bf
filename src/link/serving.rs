//! Keys of parallelism and of serving engines.

use super::{Key, count, parsed, switch, whole};
use crate::quantity::{Bytes, Decimal};
use crate::scenario::Version;

pub(super) static PARALLEL: &[Key] = &[
    count!("pp", parallel.pipeline),
    count!("dp", parallel.data),
    count!("ep", parallel.expert),
    count!("cp", parallel.context),
    switch!("dpa", parallel.data_attention),
];

pub(super) static SERVING: &[Key] = &[
    parsed!("rv", Version, serving.runtime_version),
    parsed!("static", Decimal, serving.mem_fraction_static),
    parsed!("share", Decimal, serving.prefix_share),
    Key {
        name: "offload",
        write: |scenario| scenario.serving.cpu_offload.map(|bytes| bytes.get().to_string()),
        read: |scenario, text| {
            scenario.serving.cpu_offload = Some(Bytes(whole(text)?));
            Ok(())
        },
    },
    count!("loras", serving.max_loras),
    count!("rank", serving.max_lora_rank),
    count!("ans", serving.answer),
];
