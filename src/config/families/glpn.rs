//! GLPN: `SegFormer`'s encoder, and maps fused two by two from the smallest up.

use super::decoder::{Draft, Tensors};
use super::networks::{class, normed, size};
use super::vision::{bare, per_stage};
use super::{ConfigError, Fields, segformer};

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let class = class(f)?;
    let mut draft = segformer::read(&f.as_class("SegformerModel"))?;
    draft.decoder.base = "glpn";
    for tensor in &mut draft.decoder.tensors {
        tensor.name = tensor.name.replacen("segformer.", "glpn.", 1);
    }
    let widths = per_stage(f, "hidden_sizes", &[32, 64, 160, 256])?;
    let width = size(f, "decoder_hidden_size", 64)?;
    f.touch("max_depth");
    f.touch("head_in_index");
    if class.ends_with("Model") {
        return Ok(draft);
    }
    let mut t = Tensors::default();
    for (number, &channels) in widths.iter().rev().enumerate() {
        let at = format!("decoder.stages.{number}");
        if channels != width {
            t.convolution(&format!("{at}.convolution"), &[width, channels, 1, 1], true);
        }
        // The smallest map has nothing to be fused with.
        if number > 0 {
            for (place, [outputs, inputs]) in [[width, 2 * width], [width / 2, width]].into_iter().enumerate() {
                let at = format!("{at}.fusion.convolutional_layer{}", place + 1);
                normed(&mut t, &format!("{at}.0"), &format!("{at}.1"), [outputs, inputs, 3, 3]);
                t.tensor(&format!("{at}.0.bias"), crate::model::Role::Other, &[outputs]);
            }
            t.convolution(&format!("{at}.fusion.convolutional_layer3"), &[2, width / 2, 3, 3], true);
        }
    }
    t.convolution("head.head.0", &[width, width, 3, 3], true).convolution("head.head.2", &[1, width, 3, 3], true);
    draft.decoder.tensors.extend(t.build());
    if !class.is_empty() && !class.ends_with("ForDepthEstimation") {
        bare(&mut draft, &class);
    }
    Ok(draft)
}
