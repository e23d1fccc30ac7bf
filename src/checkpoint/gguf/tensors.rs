//! Names of tensors in GGUF files: where they belong and what they are for.
//!
//! Names: llama.cpp 0c1e57098 (`src/llama-arch.cpp`, `LLM_TENSOR_NAMES`; `tools/mtmd/clip-impl.h` for image and sound encoders).

use crate::model::Role;

/// The stacks of layers that a file may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stack {
    /// `blk.N.`, and everything outside of layers that no other stack claims.
    Main,
    /// `enc.`: the encoder of an encoder-decoder.
    Encoder,
    /// `dec.`: its decoder.
    Decoder,
    /// `v.`: images.
    Vision,
    /// `a.`: sound.
    Audio,
    /// `mm.` and its kin: from an encoder to the language model.
    Projector,
}

/// Beginnings of names, the stack and what is cut off.
const PREFIXES: &[(&str, Stack, &str)] = &[
    ("enc.", Stack::Encoder, "enc."),
    ("dec.", Stack::Decoder, "dec."),
    ("v.", Stack::Vision, "v."),
    ("a.", Stack::Audio, "a."),
    ("mm.", Stack::Projector, ""),
    ("resampler.", Stack::Projector, ""),
    ("adapter.", Stack::Projector, ""),
    ("model.image_newline", Stack::Projector, ""),
];

/// Where a tensor belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub stack: Stack,
    /// The layer, for tensors of one.
    pub layer: Option<u64>,
    /// The name inside its layer (`attn_q.weight`), `{}` for an expert's number; the whole name outside of layers.
    pub name: String,
}

impl Place {
    /// The place that a name says.
    pub fn of(name: &str) -> Self {
        let (stack, rest) = PREFIXES
            .iter()
            .find(|(prefix, ..)| name.starts_with(prefix))
            .map_or((Stack::Main, name), |(_, stack, cut)| (*stack, name.strip_prefix(cut).unwrap_or(name)));
        let in_layer = rest.strip_prefix("blk.").and_then(|rest| rest.split_once('.')).and_then(|(number, rest)| Some((decimal(number)?, rest)));
        match in_layer {
            Some((layer, rest)) => {
                let segments: Vec<&str> = rest.split('.').map(|segment| if decimal(segment).is_some() { "{}" } else { segment }).collect();
                Self { stack, layer: Some(layer), name: segments.join(".") }
            }
            None => Self { stack, layer: None, name: name.to_owned() },
        }
    }
}

fn decimal(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

impl Stack {
    /// Where the layers of the stack live in names.
    pub const fn layer_prefix(self) -> &'static str {
        match self {
            Self::Main | Self::Projector => "blk",
            Self::Encoder => "enc.blk",
            Self::Decoder => "dec.blk",
            Self::Vision => "v.blk",
            Self::Audio => "a.blk",
        }
    }
}

/// (role, names of modules: what stands before `.weight`, `.bias` or the end)
const ROLES: &[(Role, &[&str])] = &[
    (Role::Embedding, &["token_embd", "per_layer_token_embd", "token_types", "nextn.embed_tokens"]),
    (Role::Position, &["position_embd", "attn_rel_b", "cross_attn_rel_b"]),
    (Role::Head, &["output", "nextn.shared_head_head"]),
    (Role::Score, &["cls", "cls.output"]),
    (Role::Query, &["attn_q", "attn_q_b", "cross_attn_q"]),
    (Role::Key, &["attn_k", "cross_attn_k"]),
    (Role::Value, &["attn_v", "cross_attn_v"]),
    (Role::Qkv, &["attn_qkv", "vis_attn_qkv"]),
    (Role::LatentDown, &["attn_q_a", "attn_kv_a_mqa", "attn_kv"]),
    (Role::LatentUp, &["attn_kv_b", "attn_k_b", "attn_v_b"]),
    (Role::OutputDown, &["attn_output_a"]),
    (Role::AttentionOutput, &["attn_output", "attn_out", "attn_o", "attn_output_b", "cross_attn_o", "vis_attn_output"]),
    (Role::Gate, &["ffn_gate", "ffn_gate_shexp", "ffn_gate_chexps", "channel_mix_receptance", "vis_gate"]),
    (Role::Up, &["ffn_up", "ffn_up_shexp", "ffn_up_chexps", "channel_mix_key", "vis_up"]),
    (Role::Down, &["ffn_down", "ffn_down_shexp", "ffn_down_chexps", "channel_mix_value", "vis_down"]),
    (Role::Router, &["ffn_gate_inp", "ffn_gate_inp_shexp", "exp_probs_b", "exp_probs_b_vl"]),
    (Role::ExpertGate, &["ffn_gate_exps", "ffn_gate.{}"]),
    (Role::ExpertUp, &["ffn_up_exps", "ffn_up.{}"]),
    (Role::ExpertGateUp, &["ffn_gate_up_exps"]),
    (Role::ExpertDown, &["ffn_down_exps", "ffn_down.{}"]),
    (
        Role::MixerInput,
        &[
            "ssm_in",
            "ssm_x",
            "ssm_dt",
            "ssm_ba",
            "ssm_alpha",
            "ssm_beta",
            "ssm_f_a",
            "ssm_f_b",
            "ssm_g",
            "ssm_g_a",
            "ssm_g_b",
            "attn_gate",
            "shortconv.in_proj",
            "time_mix_key",
            "time_mix_value",
            "time_mix_receptance",
            "time_mix_gate",
        ],
    ),
    (Role::MixerOutput, &["ssm_out", "shortconv.out_proj", "time_mix_output"]),
    (Role::MixerConvolution, &["ssm_conv1d", "ssm_conv1d_q", "ssm_conv1d_k", "ssm_conv1d_v", "shortconv.conv"]),
    (Role::MixerState, &["ssm_a", "ssm_d"]),
];

/// A module's name: the name without what a tensor of it is called.
pub fn module(name: &str) -> &str {
    match name.rsplit_once('.') {
        Some((module, "weight" | "bias" | "scale" | "input_scale")) => module,
        _ => name,
    }
}

/// The role of a tensor by its name inside a layer, or by its whole name outside of layers.
pub fn role(name: &str) -> Role {
    let module = module(name);
    // Stacks other than the main one keep their prefix outside of layers.
    let module = ["enc.", "dec.", "v.", "a."].iter().find_map(|prefix| module.strip_prefix(prefix)).unwrap_or(module);
    match ROLES.iter().find(|(_, modules)| modules.contains(&module)) {
        // Mamba's time steps.
        Some((Role::MixerInput, _)) if name == "ssm_dt.bias" => Role::MixerState,
        Some((role, _)) => *role,
        None if module.contains("norm") || module.ends_with("_ln") || module.starts_with("ln") => Role::Norm,
        None if module.starts_with("time_mix_") || module.starts_with("channel_mix_") => Role::MixerState,
        None => Role::Other,
    }
}

/// Whether a tensor holds learned parameters: rotary tables and scales of quantised matrices do not, nor does the routers'
/// correction, which most classes of transformers 5.23 keep as a buffer.
pub fn is_parameter(arch: &str, name: &str) -> bool {
    let is_scale = matches!(name.rsplit_once('.'), Some((_, "scale" | "input_scale")));
    match module(name) {
        "ffn_gate_inp" | "ffn_down_exps" if is_scale => LEARNED_SCALES.contains(&arch),
        _ if is_scale => false,
        "rope_freqs" | "rope_factors_long" | "rope_factors_short" | "attn_rot_embd" => false,
        "exp_probs_b" | "exp_probs_b_vl" => LEARNED_CORRECTIONS.contains(&arch),
        _ => true,
    }
}

/// Architectures whose routers and experts have scales of their own, quantised or not.
const LEARNED_SCALES: &[&str] = &["gemma4"];

/// Architectures whose classes have the routers' correction as a parameter.
const LEARNED_CORRECTIONS: &[&str] = &["ernie4_5-moe", "laguna"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_place_and_role() {
        for (name, stack, layer, inside, is) in [
            ("token_embd.weight", Stack::Main, None, "token_embd.weight", Role::Embedding),
            ("output.weight", Stack::Main, None, "output.weight", Role::Head),
            ("output_norm.weight", Stack::Main, None, "output_norm.weight", Role::Norm),
            ("blk.31.attn_q.weight", Stack::Main, Some(31), "attn_q.weight", Role::Query),
            ("blk.0.ffn_gate.7.weight", Stack::Main, Some(0), "ffn_gate.{}.weight", Role::ExpertGate),
            ("blk.0.ffn_gate.weight", Stack::Main, Some(0), "ffn_gate.weight", Role::Gate),
            ("blk.2.ffn_gate_inp.weight", Stack::Main, Some(2), "ffn_gate_inp.weight", Role::Router),
            ("blk.2.ssm_a", Stack::Main, Some(2), "ssm_a", Role::MixerState),
            ("blk.2.ssm_dt.bias", Stack::Main, Some(2), "ssm_dt.bias", Role::MixerState),
            ("blk.2.time_mix_w1.weight", Stack::Main, Some(2), "time_mix_w1.weight", Role::MixerState),
            ("enc.blk.3.attn_o.weight", Stack::Encoder, Some(3), "attn_o.weight", Role::AttentionOutput),
            ("dec.output_norm.weight", Stack::Decoder, None, "dec.output_norm.weight", Role::Norm),
            ("v.blk.0.attn_out.weight", Stack::Vision, Some(0), "attn_out.weight", Role::AttentionOutput),
            ("v.position_embd.weight", Stack::Vision, None, "v.position_embd.weight", Role::Position),
            ("mm.0.weight", Stack::Projector, None, "mm.0.weight", Role::Other),
            ("blk.x.attn_q.weight", Stack::Main, None, "blk.x.attn_q.weight", Role::Other),
            ("blk.99999999999999999999.attn_q.weight", Stack::Main, None, "blk.99999999999999999999.attn_q.weight", Role::Other),
        ] {
            assert_eq!(Place::of(name), Place { stack, layer, name: inside.to_owned() }, "{name}");
            assert_eq!(role(inside), is, "{name}");
        }
        for (name, expected) in
            [("rope_freqs.weight", false), ("ffn_up.scale", false), ("exp_probs_b.bias", false), ("ssm_a", true), ("attn_sinks.weight", true)]
        {
            assert_eq!(is_parameter("llama", name), expected, "{name}");
        }
        assert!(is_parameter("ernie4_5-moe", "exp_probs_b.bias") && is_parameter("gemma4", "ffn_down_exps.scale"));
    }
}
