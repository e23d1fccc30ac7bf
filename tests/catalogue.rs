//! The built-in models against their parameter counts: those of the oracle's table where it has the model (`oracle.jsonl`), else
//! the published ones.

use std::collections::BTreeMap;

use serde_json::Value;
use vramfit::catalogue;
use vramfit::model::{ComponentKind, Origin};

const ORACLE: &str = include_str!("fixtures/oracle.jsonl");

/// What the Hub counts (the total of the files' safetensors headers), as llmfit-core 1.1.18 records it in `data/hf_models.json`.
/// Files with a module for multi-token prediction count it too.
const PUBLISHED: &[(&str, u64)] = &[
    ("deepseek-ai/DeepSeek-R1-Distill-Llama-70B", 70_553_706_496),
    ("deepseek-ai/DeepSeek-R1-Distill-Llama-8B", 8_030_261_248),
    ("deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", 32_763_876_352),
    ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", 7_615_616_512),
    ("deepseek-ai/deepseek-vl2-tiny", 3_370_501_440),
    ("google/gemma-2-2b-it", 2_614_341_888),
    ("google/gemma-2-9b-it", 9_241_705_984),
    ("google/gemma-3-12b-pt", 12_187_325_040),
    ("google/gemma-3-1b-it", 999_885_952),
    ("google/gemma-3-27b-pt", 27_432_406_640),
    ("google/gemma-7b", 8_537_680_896),
    ("meta-llama/Llama-3.1-405B", 405_853_388_800),
    ("meta-llama/Llama-3.1-405B-Instruct", 405_853_388_800),
    ("meta-llama/Llama-3.1-70B", 70_553_706_496),
    ("meta-llama/Llama-3.1-70B-Instruct", 70_553_706_496),
    ("meta-llama/Llama-3.1-8B", 8_030_261_248),
    ("meta-llama/Llama-3.1-8B-Instruct", 8_030_261_248),
    ("meta-llama/Llama-3.2-1B-Instruct", 1_235_814_400),
    ("meta-llama/Llama-3.2-3B", 3_212_749_824),
    ("meta-llama/Llama-3.2-90B-Vision-Instruct", 88_593_355_323),
    ("meta-llama/Llama-4-Maverick-17B-128E-Instruct", 401_583_781_376),
    ("meta-llama/Llama-4-Scout-17B-16E-Instruct", 108_641_793_536),
    ("meta-llama/Meta-Llama-3-70B-Instruct", 70_553_706_496),
    ("meta-llama/Meta-Llama-3-8B", 8_030_261_248),
    ("meta-llama/Meta-Llama-3-8B-Instruct", 8_030_261_248),
    ("mistralai/Mistral-7B-Instruct-v0.3", 7_248_023_552),
    ("mistralai/Mixtral-8x22B-Instruct-v0.1", 140_630_071_296),
    ("mistralai/Mixtral-8x7B-Instruct-v0.1", 46_702_792_704),
    ("nvidia/Nemotron-H-56B-Base-8K", 56_324_350_464),
    ("openai/gpt-oss-120b", 116_829_156_672),
    ("Qwen/Qwen2-VL-2B-Instruct", 2_208_985_600),
    ("Qwen/Qwen2.5-0.5B", 494_032_768),
    ("Qwen/Qwen2.5-0.5B-Instruct", 494_032_768),
    ("Qwen/Qwen2.5-1.5B-Instruct", 1_543_714_304),
    ("Qwen/Qwen2.5-14B-Instruct", 14_770_033_664),
    ("Qwen/Qwen2.5-32B-Instruct", 32_763_876_352),
    ("Qwen/Qwen2.5-3B", 3_085_938_688),
    ("Qwen/Qwen2.5-3B-Instruct", 3_085_938_688),
    ("Qwen/Qwen2.5-72B-Instruct", 72_706_203_648),
    ("Qwen/Qwen2.5-7B", 7_615_616_512),
    ("Qwen/Qwen2.5-7B-Instruct", 7_615_616_512),
    ("Qwen/Qwen2.5-Coder-14B-Instruct", 14_770_033_664),
    ("Qwen/Qwen2.5-Coder-32B-Instruct", 32_763_876_352),
    ("Qwen/Qwen2.5-Coder-7B-Instruct", 7_615_616_512),
    ("Qwen/Qwen3-235B-A22B-Instruct-2507", 235_093_634_560),
    ("Qwen/Qwen3-235B-A22B-Thinking-2507", 235_093_634_560),
    ("Qwen/Qwen3-30B-A3B", 30_532_122_624),
    ("Qwen/Qwen3-30B-A3B-Instruct-2507", 30_532_122_624),
    ("Qwen/Qwen3-30B-A3B-Thinking-2507", 30_532_122_624),
    ("Qwen/Qwen3-32B", 32_762_123_264),
    ("Qwen/Qwen3-4B-Instruct-2507", 4_022_468_096),
    ("Qwen/Qwen3-4B-Thinking-2507", 4_022_468_096),
    ("Qwen/Qwen3-Coder-30B-A3B-Instruct", 30_532_122_624),
    ("Qwen/Qwen3-Next-80B-A3B-Thinking", 81_324_862_720),
    ("Qwen/Qwen3-VL-235B-A22B-Instruct", 235_670_022_896),
    ("Qwen/Qwen3-VL-32B-Instruct", 33_357_390_064),
    ("Qwen/Qwen3-VL-8B-Instruct", 8_767_123_696),
    ("Qwen/Qwen3-VL-8B-Thinking", 8_767_123_696),
    ("Qwen/Qwen3.5-397B-A17B", 403_397_928_944),
    ("stabilityai/stablelm-3b-4e1t", 2_795_443_200),
    ("XiaomiMiMo/MiMo-7B-Base", 7_833_409_536),
];

/// The same where the files also hold values that are no parameters, or leave some out: how many, and what they are.
const EXPLAINED: &[(&str, u64, i64, &str)] = &[
    ("BAAI/bge-large-en", 335_142_400, 512, "position_ids"),
    ("BAAI/bge-large-en-v1.5", 335_142_400, 512, "position_ids"),
    ("deepseek-ai/DeepSeek-R1-0528", 684_531_386_000, 41_555_600, "scales of FP8 blocks"),
    ("deepseek-ai/DeepSeek-V3-0324", 684_531_386_000, 41_555_600, "scales of FP8 blocks"),
    ("meta-llama/Llama-2-7b-chat-hf", 6_738_417_664, 2_048, "rotary frequencies"),
    ("meta-llama/Llama-2-7b-hf", 6_738_417_664, 2_048, "rotary frequencies"),
    ("MiniMaxAI/MiniMax-M2.7", 228_689_764_864, 15_872, "router biases"),
    ("mistralai/Mixtral-8x22B-v0.1", 140_630_071_296, 9_437_184, "768 rows that the Instruct model, whose count this is, has more in its vocabulary"),
    ("moonshotai/Kimi-K3", 2_779_931_837_184, 82_432, "router biases"),
    ("openai-community/gpt2", 137_022_720, 12_582_912, "causal masks"),
    ("Qwen/Qwen3-32B-FP8", 32_764_027_904, 1_904_640, "scales of FP8 blocks"),
    ("tiiuae/falcon-7b-instruct", 7_217_189_760, 295_469_056, "the tied head"),
    ("zai-org/GLM-5", 753_864_139_008, -1_903_145_984, "router biases, less an embedding and a head that the MTP layer shares"),
    ("zai-org/GLM-5.1", 753_864_139_008, -1_903_145_984, "router biases, less an embedding and a head that the MTP layer shares"),
    ("zai-org/GLM-5.2", 753_329_940_480, -1_903_145_984, "router biases, less an embedding and a head that the MTP layer shares"),
];

/// Models that rest on an assumption, which is said.
const ASSUMED: &[&str] = &[
    "deepseek-ai/DeepSeek-V4-Flash",
    "deepseek-ai/DeepSeek-V4-Pro",
    "deepseek-ai/deepseek-vl2-tiny",
    "facebook/sam-vit-huge",
    "google/gemma-3-27b-it",
    "google/gemma-3-27b-pt",
    "google/paligemma2-3b-pt-224",
    "google/siglip-so400m-patch14-384",
    "llava-hf/llava-1.5-7b-hf",
    "llava-hf/llava-v1.6-mistral-7b-hf",
    "meta-llama/Llama-4-Maverick-17B-128E-Instruct",
    "meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8",
    "meta-llama/Llama-4-Scout-17B-16E",
    "meta-llama/Llama-4-Scout-17B-16E-Instruct",
    "moonshotai/Kimi-K3",
    "openai/clip-vit-base-patch32",
    "openbmb/MiniCPM3-4B",
    "Qwen/Qwen2-Audio-7B-Instruct",
    "Qwen/Qwen3-Next-80B-A3B-Instruct",
    "Qwen/Qwen3-Next-80B-A3B-Thinking",
];

#[test]
fn every_built_in_model_has_its_parameters_to_the_one() {
    let oracle: BTreeMap<String, u64> = ORACLE
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a row of JSON"))
        .filter_map(|row| Some((row["id"].as_str()?.to_owned(), row["parameters"].as_u64()?)))
        .collect();
    assert!(catalogue::ids().count() >= 150);
    for id in catalogue::ids() {
        let model = catalogue::open(id).unwrap().unwrap_or_else(|error| panic!("{id}: {error}"));
        let total = model.anatomy.parameters().unwrap().get();
        let predicting = model.anatomy.components.iter().filter(|component| component.kind == ComponentKind::TokenPredictor);
        let all = total + predicting.map(|component| component.parameters().unwrap().get()).sum::<u64>();
        let published = PUBLISHED.iter().find(|row| row.0 == id);
        let explained = EXPLAINED.iter().find(|row| row.0 == id);
        match (oracle.get(id), published, explained) {
            (Some(&parameters), None, None) => assert_eq!(total, parameters, "{id}"),
            (None, Some(&(_, count)), None) => assert!(total == count || all == count, "{id}: {total} or {all} for {count}"),
            (None, None, Some(&(_, count, beyond, what))) => assert_eq!(i128::from(all) + i128::from(beyond), i128::from(count), "{id}, with {what}"),
            _ => panic!("{id}: a built-in model has one count to be held against, in the oracle's table or here"),
        }
        assert!(!model.anatomy.is_guess, "{id}");
        assert_eq!(model.anatomy.assumptions.is_empty(), !ASSUMED.contains(&id), "{id}: {:?}", model.anatomy.assumptions);
        assert_eq!((model.provenance.id.as_deref(), model.provenance.source), (Some(id), Origin::Catalogue));
    }
}

#[test]
fn every_line_says_where_it_is_from() {
    for id in catalogue::ids() {
        let entry = catalogue::find(id).unwrap();
        assert!(!entry.source.is_empty(), "{id}");
        let date: Vec<&str> = entry.date.split('-').collect();
        assert!(
            date.iter().map(|part| part.len()).eq([4, 2, 2]) && date.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_digit())),
            "{id}: {}",
            entry.date
        );
        assert!(entry.revision.is_none_or(|commit| commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit())), "{id}");
        if let Some(other) = entry.source.strip_prefix("dimensions as ").and_then(|rest| rest.split([',', ';']).next()) {
            assert!(other.contains('/'), "{id}: {other}");
        }
    }
    assert!(catalogue::ids().map(str::to_ascii_lowercase).is_sorted(), "in the order of ids, case aside");
}
