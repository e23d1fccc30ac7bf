//! StarCoder 2: Llama's names for attention, a feed-forward of two matrices, LayerNorms, one flag for every bias, tied head.

use super::classic::{Bias, Mlp, NormKind, Sizes, Variant, all_sliding};
use super::decoder::Draft;
use super::{ConfigError, Fields};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    // Older files name what the class has anyway.
    f.touch("mlp_type");
    f.touch("norm_type");
    let bias = Bias::Key("use_bias", true);
    let variant = Variant {
        sizes: Some(Sizes { hidden: 3072, layers: 30, heads: 24, kv_heads: Some(2), head_dim: None, intermediate: Some(12_288), vocab: 49_152 }),
        qkv_bias: bias,
        output_bias: bias,
        mlp_bias: bias,
        mlp: Mlp::UpDown("mlp.c_fc", "mlp.c_proj"),
        norm_kind: NormKind::WeightAndBias,
        tied: true,
        spans: all_sliding,
        ..Variant::LLAMA
    };
    variant.read(f)
}
