//! The tier of the cache on the host.

use crate::common::{fixture, model};
use crate::{chosen, on};
use vramfit::estimate::{Stage, Term};
use vramfit::memory::estimate;
use vramfit::quantity::Bytes;
use vramfit::scenario::{Runtime, Scenario, Serving, Version};

/// 20 GiB on the host, over two replicas of two ranks.
fn with_tier(runtime: Runtime, version: Option<Version>) -> Scenario {
    let serving = Serving { runtime_version: version, kv_offloading_size: Some(Bytes(20 << 30)), ..Serving::default() };
    let parallel = vramfit::scenario::Parallel { data: Some(2), ..Default::default() };
    Scenario { runtime, gpu: Some("H100 SXM5 80GB".into()), tensor_parallel: Some(2), parallel, serving, ..Scenario::default() }
}

#[test]
fn the_host_holds_what_was_asked_for_of_each_replica() {
    for runtime in [Runtime::Vllm, Runtime::Sglang, Runtime::TensorRtLlm] {
        let scenario = with_tier(runtime, None);
        let plain = Scenario { serving: Serving { kv_offloading_size: None, ..scenario.serving.clone() }, ..scenario.clone() };
        let (answer, plain) = (on(fixture::QWEN2_7B, scenario), on(fixture::QWEN2_7B, plain));
        let host = answer.host.as_ref().unwrap();
        assert_eq!(host.term_at(Term::KvCache, Stage::Load).unwrap().expected, Bytes(40 << 30), "{runtime}");
        assert_eq!(chosen(&answer, "kv_offloading_size"), (20u64 << 30).to_string());
        // What the GPUs hold stays as it is.
        assert!(plain.host.is_none() && plain.devices == answer.devices && plain.capacity == answer.capacity, "{runtime}");
        // SGLang's pool on the host is a copy of a part of the GPUs' when it is smaller.
        assert_eq!(answer.warnings.iter().any(|warning| warning.contains("smaller than the GPUs'")), runtime == Runtime::Sglang);
    }
}

#[test]
fn a_tier_on_the_host_follows_the_version_of_vllm() {
    let of = |config, version| estimate(&model(config), &with_tier(Runtime::Vllm, Some(version)));
    assert!(of(fixture::QWEN2_7B, Version(0, 11, 0)).unwrap_err().to_string().contains("since 0.11.1"));
    // Pinned tensors are rounded up to powers of two, a shared region is not.
    for (version, most) in [(Version(0, 20, 0), 80u64 << 30), (Version(0, 33, 0), 40 << 30)] {
        let host = of(fixture::QWEN2_7B, version).unwrap().host.unwrap();
        assert_eq!(host.term_at(Term::KvCache, Stage::Decode).unwrap().high, Bytes(most), "{version}");
    }
    let says = |config, version| of(config, version).unwrap().warnings.iter().any(|warning| warning.contains("hybrid KV cache manager off"));
    assert!(says(fixture::GEMMA2_9B, Version(0, 20, 0)) && !says(fixture::GEMMA2_9B, Version(0, 22, 0)) && !says(fixture::QWEN2_7B, Version(0, 20, 0)));
    let none = Serving { kv_offloading_size: Some(Bytes(0)), ..Serving::default() };
    assert!(estimate(&model(fixture::QWEN2_7B), &Scenario { serving: none, ..Scenario::default() }).is_err());
}
