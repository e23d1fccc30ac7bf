use super::sizes::{NAMES, SIZES};
use super::*;
use crate::model::{FeedForward, Span};

fn total(text: &str) -> u64 {
    read(text).unwrap_or_else(|error| panic!("{text}: {error}")).anatomy.parameters().unwrap().get()
}

#[test]
fn sizes_of_published_models_come_to_their_parameters() {
    // Llama 2 7B, Llama 3.1 8B, TinyLlama: as transformers counts them.
    for (text, count) in [
        ("layers=32,hidden=4096,heads=32,intermediate=11008,vocab=32000", 6_738_415_616),
        ("layers:32 hidden:4096 heads:32 kv-heads:8 intermediate:14336 vocab:128_256", 8_030_261_248),
        ("num_hidden_layers=22, hidden_size=2048, num_attention_heads=32, num_key_value_heads=4, intermediate_size=5632, vocab_size=32000", 1_100_048_384),
        // Mixtral 8x7B, with either word for the width of its experts.
        ("layers=32,hidden=4096,heads=32,kv-heads=8,expert-intermediate=14336,vocab=32000,experts=8,active-experts=2", 46_702_792_704),
        ("layers=32,hidden=4096,heads=32,kv-heads=8,intermediate=14336,vocab=32000,experts=8,active-experts=2", 46_702_792_704),
    ] {
        assert_eq!(total(text), count, "{text}");
    }
    let mixtral = read("layers=32,hidden=4096,heads=32,kv-heads=8,intermediate=14336,vocab=32000,experts=8,active-experts=2").unwrap();
    assert_eq!(mixtral.anatomy.active_parameters().unwrap().get(), 12_879_925_248);
}

#[test]
fn experts_beside_others_are_counted_one_by_one() {
    let text =
        "layers=3,hidden=64,heads=4,head-dim=16,intermediate=256,vocab=100,experts=8,active-experts=2,expert-intermediate=32,shared-experts=1,dense-layers=1";
    let (attention, norms) = (4 * 64 * 64, 2 * 64);
    let (dense, sparse) = (3 * 64 * 256, 9 * 3 * 64 * 32 + 64 * 8);
    assert_eq!(total(text), 3 * (attention + norms) + dense + 2 * sparse + 64 + 2 * 100 * 64);
    let layers = read(text).unwrap().anatomy.components.remove(0).layers;
    assert_eq!(layers[0].layer.feed_forward, FeedForward::Dense { intermediate: 256, gated: true });
    assert_eq!(layers[1].layer.feed_forward, FeedForward::MixtureOfExperts { experts: 8, active: 2, intermediate: 32, shared: 32 });
    // No dense layers need no width of theirs.
    assert_eq!(total(&text.replace("intermediate=256,", "").replace(",dense-layers=1", "")), 3 * (attention + norms + sparse) + 64 + 2 * 100 * 64);
}

/// The layers of a model by hand, as runs.
fn runs(text: &str) -> Vec<(u64, crate::model::Layer)> {
    let anatomy = read(text).unwrap_or_else(|error| panic!("{text}: {error}")).anatomy;
    assert!(anatomy.keys_not_understood.is_empty(), "{:?}", anatomy.keys_not_understood);
    anatomy.components[0].layers.iter().map(|run| (run.count, run.layer)).collect()
}

#[test]
fn latent_attention_comes_to_the_parameters_of_published_models() {
    for (text, count) in [
        // DeepSeek-V2-Lite and DeepSeek-V3 without its module for further tokens, as transformers counts them.
        (
            "layers=27,hidden=2048,heads=16,intermediate=10944,vocab=102400,experts=64,active-experts=6,expert-intermediate=1408,shared-experts=2,\
             dense-layers=1,kv-lora-rank=512",
            15_706_484_224,
        ),
        (
            "layers=61,hidden=7168,heads=128,intermediate=18432,vocab=129280,experts=256,active-experts=8,expert-intermediate=2048,shared-experts=1,\
             dense-layers=3,kv-lora-rank=512,q-lora-rank=1536",
            671_026_404_352,
        ),
    ] {
        assert_eq!(total(text), count, "{text}");
        assert_eq!(runs(text)[0].1.mixer.cache_elements_per_token(), 512 + 64);
    }
    let said = read("layers=2,hidden=64,heads=4,intermediate=128,vocab=100,kv-lora-rank=16").unwrap().anatomy.assumptions;
    assert!(said.iter().any(|line| line.contains("`v-head-dim`")) && !said.iter().any(|line| line.contains("`kv-heads`")), "{said:?}");
}

#[test]
fn windows_and_recurrences_take_turns_with_full_attention() {
    const SIZES: &str = "layers=12,hidden=64,heads=4,kv-heads=2,intermediate=128,vocab=100";
    let sliding = runs(&format!("{SIZES},window=1024,full-every=6"));
    let spans: Vec<_> = sliding.iter().map(|(count, layer)| (*count, layer.mixer.span().unwrap())).collect();
    assert_eq!(spans, [(5, Span::Sliding(1024)), (1, Span::Full), (5, Span::Sliding(1024)), (1, Span::Full)]);

    let attention = 2 * 64 * 64 + 2 * 32 * 64;
    let around = 12 * (3 * 64 * 128 + 2 * 64) + 64 + 2 * 100 * 64;
    // Two heads of 32 with 16 columns of state: in, out, a convolution with its bias, three vectors of heads, a norm.
    let mamba = 64 * (2 * 64 + 2 * 16 + 2) + 64 * 64 + (64 + 2 * 16) * (4 + 1) + 3 * 2 + 64;
    let hybrid = format!("{SIZES},recurrent=mamba2,state-heads=2,state-head-dim=32,state-size=16,full-every=4");
    assert_eq!(total(&hybrid), around + 3 * attention + 9 * mamba);
    let kept: Vec<_> = runs(&hybrid).iter().map(|(count, layer)| (*count, layer.mixer.cache_elements_per_token())).collect();
    assert_eq!(kept, [(3, 0), (1, 64), (3, 0), (1, 64), (3, 0), (1, 64)]);
    // Alone it needs no heads of attention.
    let alone = hybrid.replace("heads=4,kv-heads=2,", "").replace(",full-every=4", "");
    assert_eq!(total(&alone), around + 12 * mamba);

    // Two heads of values over one of keys.
    let delta = format!(
        "{SIZES},recurrent=gated-delta-net,state-heads=2,state-head-dim=32,state-size=16,state-groups=1,full-every=4,\
        experts=8,active-experts=2,expert-intermediate=32,shared-experts=1"
    )
    .replace("intermediate=128,", "");
    let net = 64 * (2 * 16 + 2 * 64 + 2 * 2) + 64 * 64 + (2 * 16 + 64) * 4 + 2 * 2 + 32;
    let sparse = 9 * 3 * 64 * 32 + 64 * 8;
    assert_eq!(total(&delta), 12 * (sparse + 2 * 64) + 64 + 2 * 100 * 64 + 3 * attention + 9 * net);
    // A window beside shared experts.
    let window = format!("{SIZES},experts=8,active-experts=2,expert-intermediate=32,shared-experts=1,window=8").replace("intermediate=128,", "");
    assert_eq!(runs(&window), [(12, crate::model::Layer { mixer: runs(&format!("{SIZES},window=8"))[0].1.mixer, ..runs(&window)[0].1 })]);
    assert_eq!(total(&window), 12 * (sparse + attention + 2 * 64) + 64 + 2 * 100 * 64);
}

#[test]
fn the_width_follows_from_the_parameters() {
    let sizes = "layers=32,hidden=4096,heads=32,vocab=32000";
    let manual = read(&format!("{sizes},params=6738415616")).unwrap();
    assert_eq!(manual.anatomy, {
        let mut same = read(&format!("{sizes},intermediate=11008")).unwrap().anatomy;
        same.assumptions = manual.anatomy.assumptions.clone();
        same
    });
    assert!(manual.anatomy.assumptions.iter().any(|said| said.contains("11,008") && said.contains("6.74 B")), "{:?}", manual.anatomy.assumptions);
    // The nearest width is never further off than half of one step.
    let count = total(&format!("{sizes},params=7B"));
    assert!(count.abs_diff(7_000_000_000) <= 32 * 3 * 4096 / 2, "{count}");
    assert!(matches!(read(&format!("{sizes},params=1B")), Err(ManualError::TooFew { .. })));
    // Given both, the sizes count, and it is said.
    let both = read(&format!("{sizes},intermediate=11008,params=7B")).unwrap();
    assert!(both.anatomy.parameters().unwrap().get() == 6_738_415_616 && both.anatomy.assumptions[1].contains("7.00 B"));
}

#[test]
fn what_was_not_given_is_said() {
    let short = read("layers=2,hidden=64,heads=4,intermediate=128,vocab=100").unwrap().anatomy;
    for word in ["`llama`", "`kv-heads`", "`head-dim`", "`tied`", "`context`"] {
        assert!(short.assumptions.iter().any(|said| said.contains(word)), "{word}: {:?}", short.assumptions);
    }
    let long =
        read("layers=2,hidden=64,heads=4,kv-heads=2,head-dim=16,intermediate=128,vocab=100,context=4096,tied=yes,dtype=fp16,window=1024").unwrap().anatomy;
    assert_eq!(long.assumptions.len(), 1, "{:?}", long.assumptions);
    assert_eq!((long.max_context, long.dtype.unwrap().name), (Some(4096), "F16"));
    assert_eq!(long.components[0].layers[0].layer.mixer.span(), Some(Span::Sliding(1024)));
    assert_eq!(short.parameters().unwrap().get() - long.parameters().unwrap().get(), 64 * 100 + 2 * 2 * 64 * 32);
    assert!(short.keys_not_understood.is_empty() && long.keys_not_understood.is_empty());
}

#[test]
fn what_is_wrong_is_named() {
    const WHOLE: &str = "layers=2,hidden=64,heads=4,intermediate=128,vocab=100";
    let said = |text: &str| read(text).unwrap_err().to_string();
    for name in ["layers", "hidden", "heads", "vocab", "intermediate"] {
        let without: Vec<&str> = WHOLE.split(',').filter(|pair| !pair.starts_with(&format!("{name}="))).collect();
        assert!(said(&without.join(",")).contains(&format!("`{name}` is missing")), "{name}");
    }
    for (more, word) in [
        ("layerz=3", "`layerz`"),
        ("layers=3", "twice"),
        ("context", "not a name with a value"),
        ("context=", "not a name with a value"),
        ("context=lots", "`context`"),
        ("context=4,09", "`context` is `4,09`"),
        ("context=0,125", "`context` is `0,125`"),
        ("context=1234,567", "`context` is `1234,567`"),
        ("params=7,5B", "`params` is `7,5B`"),
        ("params=7,500B", "`params` is `7,500B`"),
        ("context=4096, 5", "`5` is not a name with a value"),
        ("kv-heads=3", "num_key_value_heads"),
        ("kv-heads=0", "num_key_value_heads"),
        ("tied=perhaps", "`tied`"),
        ("params=many", "`params`"),
        ("dtype=float7", "dtype"),
        ("active-experts=2", "`experts` is missing"),
        ("experts=8", "`active-experts` is missing"),
        ("experts=8,active-experts=2,expert-intermediate=32", "`dense-layers`"),
        ("window=8,kv-lora-rank=16", "latent attention has no window"),
        ("full-every=4", "`full-every` tells layers apart"),
        ("window=8,full-every=3", "`full-every` is `3`"),
        ("window=8,full-every=1", "`full-every` is `1`"),
        ("kv-lora-rank=16,kv-heads=2", "leave out `kv-heads`"),
        ("kv-lora-rank=16,head-dim=99", "leave out `kv-heads` and `head-dim`"),
        ("recurrent=mamba2,state-heads=2,state-head-dim=32,state-size=16", "every layer has the recurrence"),
        ("q-lora-rank=16", "`kv-lora-rank` is missing"),
        ("state-size=16", "`recurrent` is missing"),
        ("recurrent=mamba2,state-heads=2,state-head-dim=64,full-every=2", "`state-size` is missing"),
        ("experts=8,active-experts=2,expert-intermediate=32,dense-layers=2", "`dense-layers` is `2`"),
        ("experts=8,active-experts=2,expert-intermediate=32,dense-layers=40", "none has the experts"),
        ("recurrent=mamba2,state-heads=2,state-head-dim=64,state-size=16,state-groups=3,full-every=2", "`state-groups` is `3`"),
        ("recurrent=gated-delta-net,state-heads=4,state-head-dim=64,state-size=16,state-groups=0,full-every=2", "must divide `state-heads`"),
        ("recurrent=rnn,state-heads=2,state-head-dim=64,state-size=16,full-every=2", "`mamba2` and `gated-delta-net`"),
    ] {
        let error = said(&format!("{WHOLE},{more}"));
        assert!(error.contains(word), "{more}: {error}");
    }
    // Without heads, every other size of attention is one too many.
    for more in ["kv-heads=2", "head-dim=16", "window=8", "kv-lora-rank=16"] {
        let alone = WHOLE.replace("heads=4,", "recurrent=mamba2,state-heads=2,state-head-dim=32,state-size=16,");
        assert!(read(&alone).is_ok() && said(&format!("{alone},{more}")).contains("every layer has the recurrence"), "{more}");
    }
    assert!(said("").contains("`layers`") && said(&"x".repeat(2000)).contains("not a name"));
    assert!(matches!(read("layers=10000,hidden=1099511627776,heads=1,intermediate=1099511627776,vocab=1"), Err(ManualError::Config(_))));
}

#[test]
fn a_text_leads_back_to_itself() {
    let text = "vocab=100 layers=2,hidden=64;heads=4, intermediate=128";
    let manual = read(text).unwrap();
    assert_eq!(manual.text, "layers:2,hidden:64,heads:4,intermediate:128,vocab:100");
    assert_eq!(read(&manual.text).unwrap(), manual);
    assert_eq!(read(&text.replace("100", "1,234,567")).unwrap().text, manual.text.replace("100", "1234567"));
    assert!(is_manual(text) && is_manual(&manual.text) && is_manual("num_hidden_layers=2"));
    for name in ["org/name", "https://huggingface.co/x", "{\"layers\": 2}", "layers", "hf://org/name", "hub.example:8443/org/name", "gpt2", "=", "7=x"] {
        assert!(!is_manual(name), "{name}");
    }
    // A name with a tag has no size in it; what has `=` is no name, so that a slip in a size is told as one.
    for (text, has) in [("mistral:7b", false), ("mistral:latest", false), ("layers:2,hidden:64", true), ("num_hidden_layers: 2", true), ("layerz=2", true)] {
        assert!(is_manual(text) && has_sizes(text) == has, "{text}");
    }
    assert_eq!(NAMES.split(", ").map(str::trim).collect::<Vec<_>>(), SIZES.iter().map(|size| size.name).collect::<Vec<_>>());
}

proptest::proptest! {
    #[test]
    fn any_text_does_no_harm(text in r"((layers|hidden|heads|kv-heads|intermediate|vocab|params|experts|active-experts|shared-experts|window|full-every|kv-lora-rank|state-heads|state-size)[=:][0-9]{1,20}[BKx.]?[, ]){0,12}|\PC{0,60}") {
        if let Ok(manual) = read(&text) {
            proptest::prop_assert_eq!(&read(&manual.text), &Ok(manual.clone()));
        }
    }

    #[test]
    fn sizes_in_any_order_are_the_same_model(layers in 1u64..100, hidden in 1u64..512, heads in 1u64..16, width in 1u64..5000, vocab in 1u64..100_000) {
        let pairs = [format!("layers={layers}"), format!("hidden={}", hidden * heads), format!("heads={heads}"), format!("intermediate={width}"), format!("vocab={vocab}")];
        let there = read(&pairs.join(",")).unwrap();
        let back: Vec<String> = pairs.into_iter().rev().collect();
        proptest::prop_assert_eq!(read(&back.join(",")).unwrap(), there);
    }
}
