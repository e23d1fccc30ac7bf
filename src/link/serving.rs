//! Keys of parallelism and of serving engines.

use super::{Key, bytes, choice, count, parsed, switch, whole};
use crate::quantity::{Bytes, Decimal};
use crate::scenario::{DraftModel, Scenario, UnknownChoice, Version};

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
    bytes!("offload", serving.cpu_offload),
    bytes!("kvoff", serving.kv_offloading_size),
    count!("loras", serving.max_loras),
    count!("rank", serving.max_lora_rank),
    count!("ans", serving.answer),
    choice!("cache", serving.cache),
    Key {
        name: "draft",
        write: |scenario| scenario.serving.draft.as_ref().map(|draft| draft.name.clone()),
        read: |scenario, text| {
            scenario.serving.draft = Some(DraftModel { name: text.to_owned(), model: None });
            Ok(())
        },
    },
    count!("spec", serving.speculative_tokens),
];
