//! Keys of llama.cpp.

use super::{Key, choice, count, switch, whole};
use crate::scenario::{Scenario, UnknownChoice};

pub(super) static LLAMA_CPP: &[Key] = &[
    count!("ngl", llama_cpp.gpu_layers),
    Key {
        name: "ts",
        write: |scenario| joined(&scenario.llama_cpp.tensor_split, ","),
        read: |scenario, text| {
            scenario.llama_cpp.tensor_split = parts(text, ',')?;
            Ok(())
        },
    },
    count!("ncmoe", llama_cpp.cpu_moe_layers),
    Key {
        name: "ot",
        write: |scenario| joined(&scenario.llama_cpp.overrides, "\n"),
        read: |scenario, text| {
            scenario.llama_cpp.overrides = parts(text, '\n')?;
            Ok(())
        },
    },
    count!("ub", llama_cpp.ubatch),
    choice!("fa", llama_cpp.flash_attention),
    switch!("swafull", llama_cpp.swa_full),
    switch!("nkvo", llama_cpp.no_kv_offload),
    count!("np", llama_cpp.parallel),
    Key {
        name: "kvk",
        write: |scenario| scenario.llama_cpp.kv_cache_k.map(|kind| kind.name().to_owned()),
        read: |scenario, text| {
            scenario.llama_cpp.kv_cache_k = Some(text.parse().map_err(|error: UnknownChoice| error.to_string())?);
            Ok(())
        },
    },
    Key {
        name: "kvv",
        write: |scenario| scenario.llama_cpp.kv_cache_v.map(|kind| kind.name().to_owned()),
        read: |scenario, text| {
            scenario.llama_cpp.kv_cache_v = Some(text.parse().map_err(|error: UnknownChoice| error.to_string())?);
            Ok(())
        },
    },
    switch!("mmproj", llama_cpp.mmproj),
];

/// A list as one text; `None` for none.
fn joined<T: std::fmt::Display>(list: &[T], separator: &str) -> Option<String> {
    (!list.is_empty()).then(|| list.iter().map(T::to_string).collect::<Vec<_>>().join(separator))
}

fn parts<T: std::str::FromStr>(text: &str, separator: char) -> Result<Vec<T>, String>
where
    T::Err: std::fmt::Display,
{
    text.split(separator).filter(|part| !part.is_empty()).map(|part| part.parse().map_err(|error: T::Err| error.to_string())).collect()
}
