//! DAC: a codec of sound, convolutions down to codes of several codebooks and up again; each activation has a learned scale.

use super::decoder::{Draft, Tensors};
use super::vision::staged;
use super::{ConfigError, Fields};
use crate::model::{ComponentKind, Role};

/// Most halvings of the sampling rate, and codebooks, that are read.
const MAX: usize = 64;

pub(super) fn read(f: &Fields) -> Result<Draft, ConfigError> {
    let count = |key: &'static str, default: u64| f.count_or(key, default);
    let (mut t, hidden) = coder(f, ["encoder", "decoder"])?;
    let (size, dim) = (count("codebook_size", 1024)?, count("codebook_dim", 8)?);
    let books = count("n_codebooks", 9)?;
    if books > MAX as u64 {
        return Err(f.impossible("n_codebooks", "it must be at most 64"));
    }
    for number in 0..books {
        let at = format!("quantizer.quantizers.{number}");
        t.convolution(&format!("{at}.in_proj"), &[dim, hidden, 1], true).convolution(&format!("{at}.out_proj"), &[hidden, dim, 1], true).embedding(
            &format!("{at}.codebook"),
            size,
            dim,
        );
    }
    Ok(Draft { kind: ComponentKind::AudioTower, ..staged(hidden, t.build(), Vec::new(), "") })
}

/// Encoder and decoder below these names, and the width between them.
pub(super) fn coder(f: &Fields, [encoder, decoder]: [&str; 2]) -> Result<(Tensors, u64), ConfigError> {
    let count = |key: &'static str, default: u64| f.count_or(key, default);
    let ratios = |key: &'static str, default: &[u64]| match f.counts_or(key, default)? {
        list if !list.is_empty() && list.len() <= 16 && list.iter().all(|&n| n > 0) => Ok(list),
        _ => Err(f.impossible(key, "it must be a list of factors, at least 1 each")),
    };
    let down = ratios("downsampling_ratios", &[2, 4, 8, 8])?;
    let backwards: Vec<u64> = down.iter().rev().copied().collect();
    let up = ratios("upsampling_ratios", &backwards)?;
    let first = count("encoder_hidden_size", 64)?;
    let mut t = Tensors::default();
    t.convolution(&format!("{encoder}.conv1"), &[first, 1, 7], true);
    let mut width = first;
    for (number, &ratio) in down.iter().enumerate() {
        let at = format!("{encoder}.block.{number}");
        residuals(&mut t, &at, width);
        snake(&mut t, &format!("{at}.snake1"), width);
        t.convolution(&format!("{at}.conv1"), &[width.saturating_mul(2), width, ratio.saturating_mul(2)], true);
        width = width.saturating_mul(2);
    }
    f.touch("hop_length");
    let hidden = count("hidden_size", width)?;
    snake(&mut t, &format!("{encoder}.snake1"), width);
    t.convolution(&format!("{encoder}.conv2"), &[hidden, width, 3], true);

    let mut width = count("decoder_hidden_size", 1536)?;
    t.convolution(&format!("{decoder}.conv1"), &[width, hidden, 7], true);
    for (number, &ratio) in up.iter().enumerate() {
        let (at, half) = (format!("{decoder}.block.{number}"), width / 2);
        if half == 0 {
            return Err(f.impossible("decoder_hidden_size", "it is halved once per entry of `upsampling_ratios`"));
        }
        snake(&mut t, &format!("{at}.snake1"), width);
        // Transposed: inputs first.
        t.tensor(&format!("{at}.conv_t1.weight"), Role::Other, &[width, half, ratio.saturating_mul(2)]).tensor(
            &format!("{at}.conv_t1.bias"),
            Role::Other,
            &[half],
        );
        residuals(&mut t, &at, half);
        width = half;
    }
    snake(&mut t, &format!("{decoder}.snake1"), width);
    t.convolution(&format!("{decoder}.conv2"), &[1, width, 7], true);
    Ok((t, hidden))
}

fn snake(t: &mut Tensors, at: &str, width: u64) {
    t.tensor(&format!("{at}.alpha"), Role::Other, &[1, width, 1]);
}

fn residuals(t: &mut Tensors, at: &str, width: u64) {
    for number in 1..=3 {
        let at = format!("{at}.res_unit{number}");
        snake(t, &format!("{at}.snake1"), width);
        snake(t, &format!("{at}.snake2"), width);
        t.convolution(&format!("{at}.conv1"), &[width, width, 7], true).convolution(&format!("{at}.conv2"), &[width, width, 1], true);
    }
}
