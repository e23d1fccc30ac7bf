//! Perceiver: a table of latents looks at the input once, then at itself; a decoder looks at the latents. What reads the input and
//! what is decoded, the class says.

use super::decoder::{Draft, Tensors, labels};
use super::networks::{Network, class, feed_forward, heads, layers, size};
use super::vision::{Encoder, linear, norm};
use super::{ConfigError, Fields};
use crate::model::{Role, Tensor};

/// A layer that looks from `queries` at `keys`, with these inner widths.
struct Look {
    queries: u64,
    keys: u64,
    inner: u64,
    values: u64,
    widening: u64,
    crosses: bool,
}

impl Look {
    fn tensors(&self) -> Vec<Tensor> {
        let mut t = Tensors::default();
        let at = "attention.self";
        norm(&mut t, &format!("{at}.layernorm1"), self.queries, true);
        if self.crosses {
            norm(&mut t, &format!("{at}.layernorm2"), self.keys, true);
        }
        linear(&mut t, Role::Query, &format!("{at}.query"), self.queries, self.inner, true);
        linear(&mut t, Role::Key, &format!("{at}.key"), self.keys, self.inner, true);
        linear(&mut t, Role::Value, &format!("{at}.value"), self.keys, self.values, true);
        let output = if self.crosses { self.queries } else { self.values };
        linear(&mut t, Role::AttentionOutput, "attention.output.dense", self.values, output, true);
        norm(&mut t, "layernorm", self.queries, true);
        feed_forward(&mut t, ["mlp.dense1", "mlp.dense2"], self.queries, self.queries.saturating_mul(self.widening));
        t.build()
    }
}

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let class = class(f)?;
    let latents = size(f, "d_latents", 1280)?;
    let own = size(f, "d_model", 768)?;
    let attention = heads(f, "num_self_attention_heads", 8, latents)?;
    let (inner, values) = (f.optional_count("qk_channels")?, f.optional_count("v_channels")?);
    let (widening, crossing) = (size(f, "self_attention_widening_factor", 1)?, size(f, "cross_attention_widening_factor", 1)?);
    for key in ["num_cross_attention_heads", "num_blocks", "use_query_residual", "samples_per_patch", "audio_samples_per_frame", "num_frames", "train_size"] {
        f.touch(key);
    }
    for key in ["output_shape", "output_num_channels", "_label_trainable_num_channels"] {
        f.touch(key);
    }
    // Blocks run the same layers again.
    let depth = layers(f, "num_self_attends_per_block", 26)?;
    let mut network = Network::default();
    let square = inner.unwrap_or(latents);
    let within = Look { queries: latents, keys: latents, inner: square, values: values.unwrap_or(square), widening, crosses: false };
    let encoder = Encoder { hidden: latents, layers: depth, heads: attention, intermediate: latents.saturating_mul(widening) };
    network.stack("vision", "perceiver.encoder.self_attends", &encoder, &within.tensors());

    let t = &mut network.t;
    t.tensor("perceiver.embeddings.latents", Role::Other, &[size(f, "num_latents", 256)?, latents]);
    let positions = size(f, "max_position_embeddings", 2048)?;
    let reads = |kind: &str| class.ends_with(kind);
    let reads_text = reads("ForMaskedLM") || reads("ForSequenceClassification");
    // What the encoder looks at: of images, colours or features and positions side by side, as many as stand in the class's code.
    let looks_at = match class.as_str() {
        "PerceiverForImageClassificationLearned" => 512,
        "PerceiverForImageClassificationFourier" => 261,
        "PerceiverForImageClassificationConvProcessing" | "PerceiverForOpticalFlow" => 322,
        _ => own,
    };
    if reads_text {
        t.embedding("perceiver.input_preprocessor.embeddings", size(f, "vocab_size", 262)?, own).embedding(
            "perceiver.input_preprocessor.position_embeddings",
            positions,
            own,
        );
    } else if reads("ForImageClassificationLearned") {
        let side = size(f, "image_size", 56)?;
        t.convolution("perceiver.input_preprocessor.convnet_1x1", &[256, 3, 1, 1], true)
            .tensor("perceiver.input_preprocessor.position_embeddings.position_embeddings", Role::Position, &[side.saturating_mul(side), 256])
            .linear("perceiver.input_preprocessor.positions_projection", 256, 256, true);
    } else if reads("ForImageClassificationConvProcessing") {
        t.convolution("perceiver.input_preprocessor.convnet.conv", &[64, 3, 7, 7], false).norm("perceiver.input_preprocessor.convnet.batchnorm", 64, true);
    } else if reads("ForOpticalFlow") {
        t.linear("perceiver.input_preprocessor.conv_after_patches", 54, 64, true);
    }
    let by_query = match f.optional_text("cross_attention_shape_for_attention")?.as_deref() {
        None | Some("kv") => false,
        Some("q") => true,
        Some(_) => return Err(f.impossible("cross_attention_shape_for_attention", "it must be `q` or `kv`")),
    };
    let shape = |own: u64| if by_query { latents } else { own };
    let square = inner.unwrap_or(shape(looks_at));
    let first = Look { queries: latents, keys: looks_at, inner: square, values: values.unwrap_or(square), widening: crossing, crosses: true };
    t.nested("perceiver.encoder.cross_attention", first.tensors());
    for key in ["image_size", "vocab_size", "max_position_embeddings"] {
        f.touch(key);
    }

    let decoded = |inner: u64, values: u64, queries: u64| Look { queries, keys: latents, inner, values, widening: 1, crosses: true }.tensors();
    if reads("ForMaskedLM") {
        t.tensor("perceiver.decoder.output_position_encodings.position_embeddings", Role::Position, &[positions, own])
            .nested("perceiver.decoder.decoding_cross_attention", decoded(256, own, own))
            .tensor("embedding_decoder.bias", Role::Head, &[size(f, "vocab_size", 262)?]);
    } else if reads("ForSequenceClassification") || class.contains("ForImageClassification") {
        let at = "perceiver.decoder.decoder";
        // A decoder of the class's own sizes: its inner width is that of the shape by which it attends.
        let width = latents;
        t.tensor(&format!("{at}.output_position_encodings.position_embeddings"), Role::Position, &[1, width])
            .nested(&format!("{at}.decoding_cross_attention"), decoded(width, width, width))
            .linear(&format!("{at}.final_layer"), width, labels(f)?, true);
    } else if reads("ForOpticalFlow") {
        let at = "perceiver.decoder.decoder";
        let width = if by_query { 322 } else { latents };
        t.nested(&format!("{at}.decoding_cross_attention"), decoded(width, width, 322)).linear(&format!("{at}.final_layer"), 322, 2, true);
    } else if !class.is_empty() && !class.ends_with("Model") {
        network.headless(&class);
    }
    Ok(network.draft(latents))
}
