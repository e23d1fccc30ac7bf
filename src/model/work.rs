//! What a part works on, as far as the size of what it holds meanwhile is concerned.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::Images;

/// What a part works on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    /// Tokens, as its layers say.
    #[default]
    Tokens,
    /// Latents of an image or video, from which it takes the noise.
    Denoise(Denoising),
    /// Latents that it turns into pixels.
    Decode(Decoding),
    /// Images, through feature maps.
    Images(Images),
    /// Tokens of images or sound, where the shapes of its tensors do not tell how many.
    Input(Input),
}

/// What one image, or the sound of one request, becomes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Its tokens: all that the part makes, or those beside the text where it reads text.
    pub tokens: u64,
    /// What is read and how it is cut, for people.
    pub rule: Cow<'static, str>,
}

/// How a denoiser sees the latents, and what one of its tokens holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denoising {
    /// Side of one token in pixels of the latents, packing by the pipeline included.
    pub patch: u64,
    /// Tokens of text that stand beside those of the image; 0 where they are only attended to.
    pub text_tokens: u64,
    /// Values that one token holds at the worst moment of a step.
    pub values: u64,
    /// Copies of the batch that guidance makes, unless the pipeline runs them one after the other.
    pub copies: u64,
    /// Width and height of the latents and frames of the video that the pipeline makes unless told otherwise.
    pub output: (u64, u64, u64),
}

impl Denoising {
    /// One token per pixel of 128 × 128 latents; no guidance, no text beside.
    pub const LATENT: Self = Self { patch: 1, text_tokens: 0, values: 0, copies: 1, output: (128, 128, 1) };
}

/// How an autoencoder's decoder makes pixels, and what it holds meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decoding {
    /// Pixels of one side of a pixel of the latents.
    pub scale: u64,
    /// Frames of one frame of the latents; 1 for images.
    pub frame_scale: u64,
    /// Values that it holds per pixel of one frame, however many frames there are.
    pub per_pixel: u64,
    /// Values that it holds per pixel of every frame.
    pub per_frame_pixel: u64,
    /// Channels of the latents.
    pub channels: u64,
}
