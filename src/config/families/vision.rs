//! The vocabulary of vision transformers: encoder layers in their spellings, patch embeddings, and the towers that
//! vision-language models hold. Tensor names are relative to the tower until it is finished.

use super::decoder::{Decoder, Draft, Head, Shape, Tensors, component, labels};
use super::multimodal::lasting;
pub(super) use super::tower_kinds::tower;
use super::{ConfigError, Fields};
use crate::model::{Attention, Component, ComponentKind, FeedForward, Images, Keeps, Layer, Mixer, Role, Span, Step, Tensor, Window, Work};

/// The sizes of a transformer encoder.
#[derive(Clone, Copy, Debug)]
pub(super) struct Encoder {
    pub hidden: u64,
    pub layers: u64,
    pub heads: u64,
    pub intermediate: u64,
}

impl Encoder {
    const MAX_LAYERS: u64 = 10_000;

    /// Reads them; the class's defaults stand in `f` already.
    pub(super) fn read(f: &Fields) -> Result<Self, ConfigError> {
        let intermediate = f.count("intermediate_size")?;
        Self::read_with(f, intermediate)
    }

    /// The same for classes that give the inner width otherwise.
    pub(super) fn read_with(f: &Fields, intermediate: u64) -> Result<Self, ConfigError> {
        let encoder = Self { hidden: f.count("hidden_size")?, layers: f.count("num_hidden_layers")?, heads: f.count("num_attention_heads")?, intermediate };
        if encoder.layers > Self::MAX_LAYERS {
            return Err(f.impossible("num_hidden_layers", "no model has more than 10,000 layers"));
        }
        if !encoder.hidden.is_multiple_of(encoder.heads) {
            return Err(f.impossible("num_attention_heads", "it must divide `hidden_size`"));
        }
        Ok(encoder)
    }

    fn layer(&self, gated: bool) -> Layer {
        let head = self.hidden / self.heads;
        let attention = Attention { heads: self.heads, kv_heads: self.heads, key_dim: head, value_dim: head, span: Span::Full, keeps: Keeps::Nothing };
        Layer { mixer: Mixer::Attention(attention), feed_forward: FeedForward::Dense { intermediate: self.intermediate, gated } }
    }
}

/// How an encoder layer spells its modules, and which have biases.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    /// Query, key and value projections; one name when they are one matrix.
    pub qkv: &'static [&'static str],
    /// Their biases, in the same order.
    pub qkv_bias: [bool; 3],
    pub output: &'static str,
    pub output_bias: bool,
    /// Empty when the feed-forward has no gate.
    pub gate: &'static str,
    pub up: &'static str,
    pub down: &'static str,
    pub mlp_bias: bool,
    pub norms: &'static [&'static str],
    pub norm_bias: bool,
    /// Vectors of the hidden width: layer scales.
    pub scales: &'static [&'static str],
}

/// CLIP, `SigLIP`, Idefics.
pub(super) const CLIP: Style = Style {
    qkv: &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    qkv_bias: [true; 3],
    output: "self_attn.out_proj",
    output_bias: true,
    gate: "",
    up: "mlp.fc1",
    down: "mlp.fc2",
    mlp_bias: true,
    norms: &["layer_norm1", "layer_norm2"],
    norm_bias: true,
    scales: &[],
};

/// BLIP and its kin: CLIP with one matrix for queries, keys and values.
pub(super) const BLIP: Style = Style { qkv: &["self_attn.qkv"], output: "self_attn.projection", ..CLIP };

/// `ViT`, `DeiT`, `BEiT`.
pub(super) const VIT: Style = Style {
    qkv: &["attention.attention.query", "attention.attention.key", "attention.attention.value"],
    output: "attention.output.dense",
    up: "intermediate.dense",
    down: "output.dense",
    norms: &["layernorm_before", "layernorm_after"],
    ..CLIP
};

/// BERT as text encoders of vision models have it.
pub(super) const BERT: Style = Style {
    qkv: &["attention.self.query", "attention.self.key", "attention.self.value"],
    output: "attention.output.dense",
    up: "intermediate.dense",
    down: "output.dense",
    norms: &["attention.output.LayerNorm", "output.LayerNorm"],
    ..CLIP
};

/// `DINOv2`.
pub(super) const DINOV2: Style = Style {
    qkv: &["attention.attention.query", "attention.attention.key", "attention.attention.value"],
    output: "attention.output.dense",
    norms: &["norm1", "norm2"],
    scales: &["layer_scale1.lambda1", "layer_scale2.lambda1"],
    ..CLIP
};

/// Pixtral: a Llama-like encoder.
pub(super) const PIXTRAL: Style = Style {
    qkv: &["attention.q_proj", "attention.k_proj", "attention.v_proj"],
    qkv_bias: [false; 3],
    output: "attention.o_proj",
    output_bias: false,
    gate: "feed_forward.gate_proj",
    up: "feed_forward.up_proj",
    down: "feed_forward.down_proj",
    mlp_bias: false,
    norms: &["attention_norm", "ffn_norm"],
    norm_bias: false,
    scales: &[],
};

impl Style {
    /// The same with these biases.
    pub(super) const fn biases(self, qkv: bool, output: bool, mlp: bool) -> Self {
        Self { qkv_bias: [qkv; 3], output_bias: output, mlp_bias: mlp, ..self }
    }

    /// One layer's tensors.
    pub(super) fn tensors(&self, e: &Encoder) -> Vec<Tensor> {
        let mut t = Tensors::default();
        match self.qkv {
            [joint] => linear(&mut t, Role::Qkv, joint, e.hidden, 3 * e.hidden, self.qkv_bias[0]),
            parts => {
                for ((name, role), bias) in parts.iter().zip([Role::Query, Role::Key, Role::Value]).zip(self.qkv_bias) {
                    linear(&mut t, role, name, e.hidden, e.hidden, bias);
                }
            }
        }
        linear(&mut t, Role::AttentionOutput, self.output, e.hidden, e.hidden, self.output_bias);
        if !self.gate.is_empty() {
            linear(&mut t, Role::Gate, self.gate, e.hidden, e.intermediate, self.mlp_bias);
        }
        linear(&mut t, Role::Up, self.up, e.hidden, e.intermediate, self.mlp_bias);
        linear(&mut t, Role::Down, self.down, e.intermediate, e.hidden, self.mlp_bias);
        for name in self.norms {
            norm(&mut t, name, e.hidden, self.norm_bias);
        }
        for name in self.scales {
            t.tensor(name, Role::Other, &[e.hidden]);
        }
        t.build()
    }

    /// All layers.
    pub(super) fn layers(&self, e: &Encoder) -> Vec<(Layer, Vec<Tensor>)> {
        self.layers_with(e, &[])
    }

    /// All layers, each with further tensors.
    pub(super) fn layers_with(&self, e: &Encoder, more: &[Tensor]) -> Vec<(Layer, Vec<Tensor>)> {
        let tensors: Vec<_> = self.tensors(e).into_iter().chain(more.iter().cloned()).collect();
        (0..e.layers).map(|_| (e.layer(!self.gate.is_empty()), tensors.clone())).collect()
    }
}

/// A matrix and, if wanted, its bias.
pub(super) fn linear(t: &mut Tensors, role: Role, name: &str, inputs: u64, outputs: u64, bias: bool) {
    t.tensor(&format!("{name}.weight"), role, &[outputs, inputs]);
    if bias {
        t.tensor(&format!("{name}.bias"), role, &[outputs]);
    }
}

/// A norm, whatever its module is called.
pub(super) fn norm(t: &mut Tensors, name: &str, width: u64, bias: bool) {
    t.tensor(&format!("{name}.weight"), Role::Norm, &[width]);
    if bias {
        t.tensor(&format!("{name}.bias"), Role::Norm, &[width]);
    }
}

/// A size that is one number or a pair: height and width.
pub(super) fn pair(f: &Fields, key: &'static str) -> Result<[u64; 2], ConfigError> {
    if !f.raw(key).is_some_and(serde_json::Value::is_array) {
        return f.count(key).map(|side| [side, side]);
    }
    match f.optional_counts(key)?.as_deref() {
        Some([height, width]) if *height > 0 && *width > 0 => Ok([*height, *width]),
        _ => Err(f.impossible(key, "it must be one size or two: height and width")),
    }
}

/// Patches of an image: `image_size` over `patch_size`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patches {
    pub channels: u64,
    pub size: [u64; 2],
    pub grid: [u64; 2],
    pub number: u64,
}

impl Patches {
    pub(super) fn read(f: &Fields) -> Result<Self, ConfigError> {
        let (image, size) = (pair(f, "image_size")?, pair(f, "patch_size")?);
        let grid = [image[0] / size[0], image[1] / size[1]];
        let number = grid[0].checked_mul(grid[1]).filter(|&number| number <= 1 << 40).ok_or(ConfigError::Overflow)?;
        if number == 0 {
            return Err(f.impossible("patch_size", "it must not be larger than `image_size`"));
        }
        Ok(Self { channels: f.count_or("num_channels", 3)?, size, grid, number })
    }

    /// The convolution that makes patches.
    pub(super) fn convolution(&self, t: &mut Tensors, module: &str, hidden: u64, bias: bool) {
        t.convolution(module, &[hidden, self.channels, self.size[0], self.size[1]], bias);
    }
}

/// A tower under construction: names are relative to it.
pub(super) struct Tower {
    pub encoder: Encoder,
    /// Where its layers live: `encoder.layers`.
    pub layers_at: String,
    pub tensors: Vec<Tensor>,
    pub layers: Vec<(Layer, Vec<Tensor>)>,
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}

impl Tower {
    /// The hidden size of what it gives.
    pub(super) const fn hidden(&self) -> u64 {
        self.encoder.hidden
    }

    /// The same one module deeper.
    pub(super) fn below(mut self, prefix: &str) -> Self {
        self.layers_at = join(prefix, &self.layers_at);
        for tensor in &mut self.tensors {
            tensor.name = join(prefix, &tensor.name);
        }
        self
    }

    /// With more tensors, named relative to the tower.
    pub(super) fn with(mut self, mut more: Tensors) -> Self {
        self.tensors.extend(more.build());
        self
    }

    /// As a part of a larger model.
    pub(super) fn component(self, name: &'static str, kind: ComponentKind) -> Component {
        component(name, kind, self.encoder.hidden, lasting(self.layers_at), self.tensors, self.layers)
    }

    /// As the whole model, or its first part.
    pub(super) fn draft(self, kind: ComponentKind, base: &'static str, vocab: u64) -> Draft {
        let Encoder { hidden, layers, heads, .. } = self.encoder;
        let shape = Shape { hidden, layers, vocab, heads, kv_heads: heads, head_dim: hidden / heads };
        let decoder = Decoder {
            shape,
            base,
            layer_prefix: lasting(self.layers_at),
            tensors: self.tensors,
            layers: self.layers,
            head: Head::Nothing,
            head_module: "lm_head",
            tied_by_default: false,
        };
        Draft { kind, ..Draft::from(decoder) }
    }
}

/// A network in stages, whose blocks differ in width: its tensors have their full names, its layers are only shapes.
pub(super) fn staged(hidden: u64, tensors: Vec<Tensor>, layers: Vec<Layer>, base: &'static str) -> Draft {
    let encoder = Encoder { hidden, layers: layers.len() as u64, heads: 1, intermediate: 0 };
    let layers = layers.into_iter().map(|layer| (layer, Vec::new())).collect();
    Tower { encoder, layers_at: String::new(), tensors, layers }.draft(ComponentKind::VisionTower, base, 0)
}

/// The layer of a block of this width, for [`staged`].
pub(super) const fn block(hidden: u64, heads: u64, intermediate: u64) -> Layer {
    let head = match hidden.checked_div(heads) {
        Some(head) => head,
        None => 0,
    };
    let attention = Attention { heads, kv_heads: heads, key_dim: head, value_dim: head, span: Span::Full, keeps: Keeps::Nothing };
    Layer { mixer: Mixer::Attention(attention), feed_forward: FeedForward::Dense { intermediate, gated: false } }
}

/// One number per stage; the class's defaults when the key is absent. All at least 1, at most 100,000.
pub(super) fn per_stage(f: &Fields, key: &'static str, default: &[u64]) -> Result<Vec<u64>, ConfigError> {
    let list = f.counts_or(key, default)?;
    if list.is_empty() || list.iter().any(|&n| n == 0 || n > 100_000) {
        return Err(f.impossible(key, "it must be a list of sizes, one per stage, from 1 to 100,000"));
    }
    Ok(list)
}

/// The same, of a given length.
pub(super) fn per_stage_of(f: &Fields, key: &'static str, default: &[u64], stages: usize) -> Result<Vec<u64>, ConfigError> {
    let list = per_stage(f, key, default)?;
    if list.len() != stages {
        return Err(f.impossible(
            key,
            "it must have one entry per stage, as the list that says how many there are (`depths`, `in_channels`, `stage_in_channels`, `blocks_per_stage`)",
        ));
    }
    Ok(list)
}

/// Most blocks that are read, of all stages.
pub(super) const MAX_BLOCKS: u64 = 1000;

/// Blocks per stage.
pub(super) fn depths(f: &Fields, default: &[u64]) -> Result<Vec<u64>, ConfigError> {
    let list = per_stage(f, "depths", default)?;
    // Each is at most 100,000: the sum of 64 cannot overflow.
    if list.len() > 64 || list.iter().sum::<u64>() > MAX_BLOCKS {
        return Err(f.impossible("depths", "it must have at most 64 stages, of at most 1,000 blocks in all"));
    }
    Ok(list)
}

/// A number of channels, for networks whose other sizes are given per stage.
pub(super) fn channels(f: &Fields) -> Result<u64, ConfigError> {
    match f.count_or("num_channels", 3)? {
        n if n <= 100_000 => Ok(n),
        _ => Err(f.impossible("num_channels", "it must be at most 100,000")),
    }
}

/// A convolution without a bias and its batch norm (whose running statistics are buffers).
pub(super) fn normed_convolution(t: &mut Tensors, base: &str, shape: [u64; 4]) {
    t.convolution(&format!("{base}.convolution"), &shape, false);
    norm(t, &format!("{base}.normalization"), shape[0], true);
}

/// What stands above a vision encoder that is a model of its own, by the end of its class name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// The bare model.
    Model,
    /// A classifier over images.
    Classification { labels: u64 },
    /// Anything else, by its name.
    Other,
}

/// The task that `architectures` names, and the class.
pub(super) fn task(f: &Fields) -> Result<(Task, String), ConfigError> {
    let Some(class) = f.architecture()? else { return Ok((Task::Model, String::new())) };
    let task = if class.ends_with("ForImageClassification") {
        Task::Classification { labels: labels(f)? }
    } else if class.ends_with("Model") || class.ends_with("WithProjection") {
        Task::Model
    } else {
        Task::Other
    };
    Ok((task, class))
}

/// The operators of a network of convolutions, while they are written down.
#[derive(Default)]
pub(super) struct Steps(pub Vec<Step>);

impl Steps {
    /// One operator.
    pub(super) fn then(mut self, step: Step) -> Self {
        self.0.push(step);
        self
    }

    /// A convolution that keeps the size of the map but for its stride.
    pub(super) fn convolution(self, kernel: u64, stride: u64, outputs: u64) -> Self {
        self.then(Step::Convolution(Window::same(kernel, stride), outputs))
    }

    /// A convolution and its batch norm.
    pub(super) fn normed(self, kernel: u64, stride: u64, outputs: u64) -> Self {
        self.convolution(kernel, stride, outputs).then(Step::BatchNorm)
    }

    /// A block and the way around it.
    pub(super) fn residual(self, body: Self, shortcut: Self) -> Self {
        self.then(Step::Residual { body: body.0, shortcut: shortcut.0 })
    }

    /// The means of all pixels and a classifier over them.
    pub(super) fn classified(self, task: Task) -> Self {
        match task {
            Task::Classification { labels } => self.convolution(1, 1, labels),
            Task::Model | Task::Other => self,
        }
    }

    /// As what a network works on, for images of the size that its config names, or of 224 × 224.
    pub(super) fn work(self, f: &Fields, channels: u64) -> Result<Work, ConfigError> {
        let [height, width] = if f.raw("image_size").is_some_and(|size| !size.is_null()) { pair(f, "image_size")? } else { [224, 224] };
        Ok(Work::Images(Images::new(channels, (width, height), &self.0)))
    }
}

/// A note that a class is counted without its head.
pub(super) fn bare(draft: &mut Draft, class: &str) {
    draft.assumptions.push(format!("architecture `{class}` is counted as the bare encoder, without its head"));
}

/// A classifier above the encoder.
pub(super) fn classifier(t: &mut Tensors, module: &str, width: u64, labels: u64) {
    linear(t, Role::Score, module, width, labels, true);
}
