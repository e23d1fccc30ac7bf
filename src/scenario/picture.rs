//! What an image or video pipeline makes.

/// The picture that is made; `None` means what the pipeline makes unless told otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    /// Width and height in pixels.
    pub size: Option<(u64, u64)>,
    /// Frames of a video.
    pub frames: Option<u64>,
    /// How many of them stand in one sample that a model with a vision tower is trained on; none unless told.
    pub count: Option<u64>,
}

/// The largest side that is computed.
const LARGEST: u64 = 1 << 16;

impl Picture {
    /// `1024x768` as width and height.
    ///
    /// # Errors
    /// What is wrong, as a sentence.
    pub fn parse_size(text: &str) -> Result<(u64, u64), String> {
        let side = |text: &str| text.trim().parse::<u64>().ok().filter(|side| (1..=LARGEST).contains(side));
        let sides = text.split_once(['x', 'X', '×']).and_then(|(width, height)| Some((side(width)?, side(height)?)));
        sides.ok_or_else(|| format!("`{text}` is not a size such as 1024x768, at most {LARGEST} a side"))
    }

    /// A number of frames.
    ///
    /// # Errors
    /// What is wrong, as a sentence.
    pub fn parse_frames(text: &str) -> Result<u64, String> {
        text.trim().parse().ok().filter(|frames| (1..=LARGEST).contains(frames)).ok_or_else(|| format!("`{text}` is not a number of frames, at most {LARGEST}"))
    }
}
