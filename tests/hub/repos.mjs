// Repositories for the stand-in of the Hub, written as descriptions.
//
// Configs carry the fields of the published ones, and weights have the names, shapes and stored types of the
// published files, split into shards by the rule that made those. Only the headers exist: every byte after a
// header is a zero that is made up while it is sent, so a repository of 90 GB costs a few kilobytes here.

import { createHash } from "node:crypto";

const BYTES = { F64: 8, F32: 4, F16: 2, BF16: 2, I64: 8, I32: 4, I16: 2, I8: 1, U8: 1, BOOL: 1, F8_E4M3: 1 };

// ---------------------------------------------------------------------------------------------------------
// Tensors, headers, shards

export const tensor = (name, dtype, ...shape) => ({ name, dtype, shape });
export const elements = (t) => t.shape.reduce((product, n) => product * n, 1);
export const dataBytes = (t) => elements(t) * BYTES[t.dtype];
const sum = (tensors, of) => tensors.reduce((total, t) => total + of(t), 0);

const text = (string) => new TextEncoder().encode(string);
const json = (value) => text(JSON.stringify(value, null, 2) + "\n");
const fakeSha = (kind, name, digits) => createHash("sha256").update(`${kind}:${name}`).digest("hex").slice(0, digits);

/** Eight bytes of little-endian length, then the JSON, padded with spaces to a multiple of eight. */
function frame(headerText, claimedLength) {
  const body = text(headerText);
  const padded = new Uint8Array(8 + Math.ceil(body.length / 8) * 8).fill(0x20);
  new DataView(padded.buffer).setBigUint64(0, BigInt(claimedLength ?? padded.length - 8), true);
  padded.set(body, 8);
  return padded;
}

/** The front of a safetensors file: wide types first, then by name, as the reference writer orders them. */
export function safetensorsHead(tensors, metadata = { format: "pt" }) {
  const ordered = [...tensors].sort((a, b) => BYTES[b.dtype] - BYTES[a.dtype] || (a.name < b.name ? -1 : 1));
  const header = { __metadata__: metadata };
  let offset = 0;
  for (const t of ordered) {
    const end = offset + dataBytes(t);
    header[t.name] = { dtype: t.dtype, shape: t.shape, data_offsets: [offset, end] };
    offset = end;
  }
  return frame(JSON.stringify(header));
}

// ---------------------------------------------------------------------------------------------------------
// GGUF: metadata, then names, dimensions (columns first), types and offsets of tensors

/** Types of ggml: number, values in a block, bytes of a block. */
const GGML = { F32: [0, 1, 4], F16: [1, 1, 2], Q8_0: [8, 32, 34], Q4_K: [12, 256, 144], Q6_K: [14, 256, 210] };

const number = (value, bytes) => {
  const out = new Uint8Array(bytes);
  for (let at = 0, rest = BigInt(value); at < bytes; at++, rest >>= 8n) out[at] = Number(rest & 255n);
  return out;
};
const join = (parts) => {
  const out = new Uint8Array(parts.reduce((total, part) => total + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
};
const word = (string) => [number(text(string).length, 8), text(string)];

/** A metadata entry: text, whole numbers, or a list of texts. */
function entry(key, value) {
  if (typeof value === "string") return [...word(key), number(8, 4), ...word(value)];
  if (Array.isArray(value)) return [...word(key), number(9, 4), number(8, 4), number(value.length, 8), ...value.flatMap(word)];
  return [...word(key), number(4, 4), number(value, 4)];
}

export const ggmlBytes = (t) => (elements(t) / GGML[t.dtype][1]) * GGML[t.dtype][2];

/** The front of a GGUF file of version 3, up to the tensors' bytes, and the size of the whole file. */
export function ggufHead(metadata, tensors) {
  let offset = 0;
  const infos = tensors.flatMap((t) => {
    const info = [...word(t.name), number(t.shape.length, 4), ...[...t.shape].reverse().map((n) => number(n, 8)), number(GGML[t.dtype][0], 4), number(offset, 8)];
    offset = Math.ceil((offset + ggmlBytes(t)) / 32) * 32;
    return info;
  });
  const entries = Object.entries(metadata);
  const head = join([text("GGUF"), number(3, 4), number(tensors.length, 8), number(entries.length, 8), ...entries.flatMap(([key, value]) => entry(key, value)), ...infos]);
  const padded = new Uint8Array(Math.ceil(head.length / 32) * 32);
  padded.set(head);
  return { head: padded, size: padded.length + offset };
}

/** What llama.cpp's converter says of a decoder that is built as Llama is. */
export function ggufMetadata(config, vocabulary = []) {
  return {
    "general.architecture": "llama",
    "llama.block_count": config.num_hidden_layers,
    "llama.context_length": config.max_position_embeddings,
    "llama.embedding_length": config.hidden_size,
    "llama.feed_forward_length": config.intermediate_size,
    "llama.attention.head_count": config.num_attention_heads,
    "llama.attention.head_count_kv": config.num_key_value_heads,
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.tokens": vocabulary,
  };
}

const GGUF_NAMES = [
  [/^model\.embed_tokens/, "token_embd"], [/^model\.norm/, "output_norm"], [/^lm_head/, "output"], [/^model\.layers/, "blk"],
  [/self_attn\.([qkv])_proj/, "attn_$1"], [/self_attn\.o_proj/, "attn_output"], [/mlp\.(gate|up|down)_proj/, "ffn_$1"],
  [/input_layernorm/, "attn_norm"], [/post_attention_layernorm/, "ffn_norm"],
];

/** The tensors of `llamaLayout` as GGUF files have them: matrices in one type, the head in another, norms in F32. */
export function ggufLayout(config, type, headType = type) {
  return llamaLayout(config).map((t) => {
    const name = GGUF_NAMES.reduce((name, [pattern, by]) => name.replace(pattern, by), t.name);
    return tensor(name, t.shape.length === 1 ? "F32" : /^output\.weight/.test(name) ? headType : type, ...t.shape);
  });
}

/** The same tensors as GPTQ packs them: four bits, groups of 128 inputs. */
export function gptqLayout(config) {
  return llamaLayout(config).flatMap((t) => {
    if (!/_proj\.weight$/.test(t.name)) return [t];
    const [outputs, inputs] = t.shape;
    const part = (name, dtype, ...shape) => tensor(t.name.replace(/weight$/, name), dtype, ...shape);
    return [
      part("qweight", "I32", inputs / 8, outputs), part("qzeros", "I32", inputs / 128, outputs / 8),
      part("scales", "F16", inputs / 128, outputs), part("g_idx", "I32", inputs),
    ];
  });
}

/** Fill shards in the order of the tensors, opening the next one when a tensor would not fit any more. */
export function splitBySize(tensors, limit) {
  const shards = [[]];
  let held = 0;
  for (const t of tensors) {
    if (held + dataBytes(t) > limit && shards.at(-1).length > 0) {
      shards.push([]);
      held = 0;
    }
    shards.at(-1).push(t);
    held += dataBytes(t);
  }
  return shards;
}

// ---------------------------------------------------------------------------------------------------------
// Files of a repository: {path, size, head (bytes that exist), large (LFS: lives on the other host)}

const smallFile = (path, head) => ({ path, head, size: head.length, large: false });
const largeFile = (path, size, head = new Uint8Array()) => ({ path, head, size, large: true });

function weightFile(path, tensors) {
  const head = safetensorsHead(tensors);
  return largeFile(path, head.length + sum(tensors, dataBytes), head);
}

const numbered = (stem, index, count, extension) =>
  `${stem}-${String(index + 1).padStart(5, "0")}-of-${String(count).padStart(5, "0")}.${extension}`;

function weightFiles(shards) {
  if (shards.length === 1) return [weightFile("model.safetensors", shards[0])];
  const map = {};
  const files = shards.map((tensors, index) => {
    const path = numbered("model", index, shards.length, "safetensors");
    for (const t of tensors) map[t.name] = path;
    return weightFile(path, tensors);
  });
  const weightMap = Object.fromEntries(Object.entries(map).sort(([a], [b]) => (a < b ? -1 : 1)));
  const index = { metadata: { total_size: sum(shards.flat(), dataBytes) }, weight_map: weightMap };
  return [...files, smallFile("model.safetensors.index.json", json(index))];
}

function ggufFile(path, metadata, tensors) {
  const { head, size } = ggufHead(metadata, tensors);
  return largeFile(path, size, head);
}

/** A GGUF file in parts, each with as many tensors; the first has the metadata. */
function ggufParts(stem, metadata, tensors, count) {
  const each = Math.ceil(tensors.length / count);
  return Array.from({ length: count }, (_, index) => {
    const own = { "split.no": index, "split.count": count, "split.tensors.count": tensors.length };
    return ggufFile(numbered(stem, index, count, "gguf"), index === 0 ? { ...metadata, ...own } : own, tensors.slice(index * each, (index + 1) * each));
  });
}

const furniture = (id) => [
  smallFile(".gitattributes", text("*.safetensors filter=lfs diff=lfs merge=lfs -text\n")),
  smallFile("README.md", text(`---\nlibrary_name: transformers\n---\n# ${id}\n`)),
  smallFile("generation_config.json", json({ _from_model_config: true })),
  smallFile("tokenizer.json", text("{}\n")),
];

/**
 * A repository. `shards` (lists of tensors) become safetensors files; `files` are added as they are;
 * `config` may be an object or, for configs that are not quite JSON, their text.
 * `behaviour` maps "" (the whole repository), "api" or a path to how the server shall misbehave there.
 */
export function repository({ id, config, shards, files = [], gated = false, private: hidden = false, behaviour = {} }) {
  const own = [];
  if (config !== undefined) own.push(smallFile("config.json", typeof config === "string" ? text(config) : json(config)));
  if (shards) own.push(...weightFiles(shards));
  const tensors = (shards ?? []).flat();
  const parameters = {};
  for (const t of tensors) parameters[t.dtype] = (parameters[t.dtype] ?? 0) + elements(t);
  const all = [...furniture(id), ...own, ...files].sort((a, b) => (a.path < b.path ? -1 : 1));
  for (const file of all) file.oid = fakeSha(file.large ? "lfs" : "blob", `${id}/${file.path}`, file.large ? 64 : 40);
  return {
    id,
    sha: fakeSha("commit", id, 40),
    storageId: fakeSha("storage", id, 24),
    config: typeof config === "object" ? config : undefined,
    gated,
    private: hidden,
    parameters: tensors.length ? parameters : undefined,
    storedParameters: sum(tensors, elements),
    storedBytes: sum(tensors, dataBytes),
    tensorCount: tensors.length,
    files: new Map(all.map((file) => [file.path, file])),
    behaviour,
  };
}

// ---------------------------------------------------------------------------------------------------------
// Layouts

/** Decoders that name their tensors as Llama does; `normType` other than `type` makes a file of mixed types. */
export function llamaLayout(config, { type = "BF16", normType = type, attentionBias = false, headNorms = false } = {}) {
  const { hidden_size: hidden, intermediate_size: inner, vocab_size: vocab } = config;
  const heads = config.num_attention_heads;
  const headDim = config.head_dim ?? hidden / heads;
  const wide = heads * headDim;
  const narrow = (config.num_key_value_heads ?? heads) * headDim;
  const experts = config.num_local_experts;
  const tensors = [tensor("model.embed_tokens.weight", type, vocab, hidden)];
  const linear = (name, out, into, bias) => {
    tensors.push(tensor(`${name}.weight`, type, out, into));
    if (bias) tensors.push(tensor(`${name}.bias`, type, out));
  };
  const norm = (name, width) => tensors.push(tensor(`${name}.weight`, normType, width));
  for (let layer = 0; layer < config.num_hidden_layers; layer++) {
    const at = `model.layers.${layer}`;
    linear(`${at}.self_attn.q_proj`, wide, hidden, attentionBias);
    linear(`${at}.self_attn.k_proj`, narrow, hidden, attentionBias);
    linear(`${at}.self_attn.v_proj`, narrow, hidden, attentionBias);
    linear(`${at}.self_attn.o_proj`, hidden, wide);
    if (headNorms) {
      norm(`${at}.self_attn.q_norm`, headDim);
      norm(`${at}.self_attn.k_norm`, headDim);
    }
    if (experts) {
      linear(`${at}.block_sparse_moe.gate`, experts, hidden);
      for (let expert = 0; expert < experts; expert++) {
        const of = `${at}.block_sparse_moe.experts.${expert}`;
        linear(`${of}.w1`, inner, hidden);
        linear(`${of}.w2`, hidden, inner);
        linear(`${of}.w3`, inner, hidden);
      }
    } else {
      linear(`${at}.mlp.gate_proj`, inner, hidden);
      linear(`${at}.mlp.up_proj`, inner, hidden);
      linear(`${at}.mlp.down_proj`, hidden, inner);
    }
    norm(`${at}.input_layernorm`, hidden);
    norm(`${at}.post_attention_layernorm`, hidden);
  }
  norm("model.norm", hidden);
  if (!config.tie_word_embeddings) linear("lm_head", vocab, hidden);
  return tensors;
}

/** GPT-2 as it was published: no prefix, no head (tied), and the causal masks stored as if they were weights. */
export function gpt2Layout(config) {
  const { n_embd: width, n_positions: positions, vocab_size: vocab } = config;
  const tensors = [tensor("wte.weight", "F32", vocab, width), tensor("wpe.weight", "F32", positions, width)];
  const pair = (name, ...shape) => {
    tensors.push(tensor(`${name}.weight`, "F32", ...shape), tensor(`${name}.bias`, "F32", shape.at(-1)));
  };
  for (let layer = 0; layer < config.n_layer; layer++) {
    const at = `h.${layer}`;
    pair(`${at}.ln_1`, width);
    tensors.push(tensor(`${at}.attn.bias`, "F32", 1, 1, positions, positions));
    pair(`${at}.attn.c_attn`, width, 3 * width); // Conv1D: inputs first
    pair(`${at}.attn.c_proj`, width, width);
    pair(`${at}.ln_2`, width);
    pair(`${at}.mlp.c_fc`, width, 4 * width);
    pair(`${at}.mlp.c_proj`, 4 * width, width);
  }
  pair("ln_f", width);
  return tensors;
}

// ---------------------------------------------------------------------------------------------------------
// Configs

export const configs = {
  mistral7b: {
    architectures: ["MistralForCausalLM"],
    bos_token_id: 1,
    eos_token_id: 2,
    hidden_act: "silu",
    hidden_size: 4096,
    initializer_range: 0.02,
    intermediate_size: 14336,
    max_position_embeddings: 32768,
    model_type: "mistral",
    num_attention_heads: 32,
    num_hidden_layers: 32,
    num_key_value_heads: 8,
    rms_norm_eps: 1e-5,
    rope_theta: 10000.0,
    sliding_window: 4096,
    tie_word_embeddings: false,
    torch_dtype: "bfloat16",
    transformers_version: "4.34.0.dev0",
    use_cache: true,
    vocab_size: 32000,
  },
  gpt2: {
    activation_function: "gelu_new",
    architectures: ["GPT2LMHeadModel"],
    attn_pdrop: 0.1,
    bos_token_id: 50256,
    embd_pdrop: 0.1,
    eos_token_id: 50256,
    initializer_range: 0.02,
    layer_norm_epsilon: 1e-5,
    model_type: "gpt2",
    n_ctx: 1024,
    n_embd: 768,
    n_head: 12,
    n_layer: 12,
    n_positions: 1024,
    resid_pdrop: 0.1,
    summary_activation: null,
    summary_first_dropout: 0.1,
    summary_proj_to_labels: true,
    summary_type: "cls_index",
    summary_use_proj: true,
    task_specific_params: { "text-generation": { do_sample: true, max_length: 50 } },
    vocab_size: 50257,
  },
  qwen2_7b: {
    architectures: ["Qwen2ForCausalLM"],
    attention_dropout: 0.0,
    bos_token_id: 151643,
    eos_token_id: 151643,
    hidden_act: "silu",
    hidden_size: 3584,
    initializer_range: 0.02,
    intermediate_size: 18944,
    max_position_embeddings: 131072,
    max_window_layers: 28,
    model_type: "qwen2",
    num_attention_heads: 28,
    num_hidden_layers: 28,
    num_key_value_heads: 4,
    rms_norm_eps: 1e-6,
    rope_theta: 1000000.0,
    sliding_window: 131072,
    tie_word_embeddings: false,
    torch_dtype: "bfloat16",
    transformers_version: "4.37.2",
    use_cache: true,
    use_sliding_window: false,
    vocab_size: 152064,
  },
  qwen3_next: {
    architectures: ["Qwen3NextForCausalLM"],
    decoder_sparse_step: 1,
    full_attention_interval: 4,
    head_dim: 256,
    hidden_act: "silu",
    hidden_size: 2048,
    intermediate_size: 5120,
    linear_conv_kernel_dim: 4,
    linear_key_head_dim: 128,
    linear_num_key_heads: 16,
    linear_num_value_heads: 32,
    linear_value_head_dim: 128,
    max_position_embeddings: 262144,
    mlp_only_layers: [],
    model_type: "qwen3_next",
    moe_intermediate_size: 512,
    num_attention_heads: 16,
    num_experts: 512,
    num_experts_per_tok: 10,
    num_hidden_layers: 48,
    num_key_value_heads: 2,
    shared_expert_intermediate_size: 512,
    tie_word_embeddings: false,
    torch_dtype: "bfloat16",
    vocab_size: 151936,
  },
  qwen3_4b: {
    architectures: ["Qwen3ForCausalLM"],
    attention_bias: false,
    attention_dropout: 0.0,
    bos_token_id: 151643,
    eos_token_id: 151645,
    head_dim: 128,
    hidden_act: "silu",
    hidden_size: 2560,
    initializer_range: 0.02,
    intermediate_size: 9728,
    max_position_embeddings: 40960,
    max_window_layers: 36,
    model_type: "qwen3",
    num_attention_heads: 32,
    num_hidden_layers: 36,
    num_key_value_heads: 8,
    rms_norm_eps: 1e-6,
    rope_scaling: null,
    rope_theta: 1000000,
    sliding_window: null,
    tie_word_embeddings: true,
    torch_dtype: "bfloat16",
    transformers_version: "4.51.0",
    use_cache: true,
    use_sliding_window: false,
    vocab_size: 151936,
  },
  mixtral8x7b: {
    architectures: ["MixtralForCausalLM"],
    attention_dropout: 0.0,
    bos_token_id: 1,
    eos_token_id: 2,
    hidden_act: "silu",
    hidden_size: 4096,
    initializer_range: 0.02,
    intermediate_size: 14336,
    max_position_embeddings: 32768,
    model_type: "mixtral",
    num_attention_heads: 32,
    num_experts_per_tok: 2,
    num_hidden_layers: 32,
    num_key_value_heads: 8,
    num_local_experts: 8,
    output_router_logits: false,
    rms_norm_eps: 1e-5,
    rope_theta: 1000000.0,
    router_aux_loss_coef: 0.02,
    sliding_window: null,
    tie_word_embeddings: false,
    torch_dtype: "bfloat16",
    transformers_version: "4.36.0.dev0",
    use_cache: true,
    vocab_size: 32000,
  },
  llama31_8b: {
    architectures: ["LlamaForCausalLM"],
    attention_bias: false,
    attention_dropout: 0.0,
    bos_token_id: 128000,
    eos_token_id: 128001,
    hidden_act: "silu",
    hidden_size: 4096,
    initializer_range: 0.02,
    intermediate_size: 14336,
    max_position_embeddings: 131072,
    mlp_bias: false,
    model_type: "llama",
    num_attention_heads: 32,
    num_hidden_layers: 32,
    num_key_value_heads: 8,
    pretraining_tp: 1,
    rms_norm_eps: 1e-5,
    rope_scaling: {
      factor: 8.0,
      low_freq_factor: 1.0,
      high_freq_factor: 4.0,
      original_max_position_embeddings: 8192,
      rope_type: "llama3",
    },
    rope_theta: 500000.0,
    tie_word_embeddings: false,
    torch_dtype: "bfloat16",
    transformers_version: "4.43.0.dev0",
    use_cache: true,
    vocab_size: 128256,
  },
  tinyLlama: {
    architectures: ["LlamaForCausalLM"],
    attention_bias: false,
    bos_token_id: 1,
    eos_token_id: 2,
    hidden_act: "silu",
    hidden_size: 2048,
    initializer_range: 0.02,
    intermediate_size: 5632,
    max_position_embeddings: 2048,
    model_type: "llama",
    num_attention_heads: 32,
    num_hidden_layers: 22,
    num_key_value_heads: 4,
    pretraining_tp: 1,
    rms_norm_eps: 1e-5,
    rope_scaling: null,
    rope_theta: 10000.0,
    tie_word_embeddings: false,
    torch_dtype: "bfloat16",
    transformers_version: "4.35.0",
    use_cache: true,
    vocab_size: 32000,
  },
};

// Same shape, later training: no window.
configs.mistral7bInstruct = {
  ...configs.mistral7b,
  attention_dropout: 0.0,
  rope_theta: 1000000.0,
  sliding_window: null,
  transformers_version: "4.36.2",
};
configs.mistral7bV3 = { ...configs.mistral7bInstruct, transformers_version: "4.42.0.dev0", vocab_size: 32768 };

// ---------------------------------------------------------------------------------------------------------
// The repositories

const GB = 1e9;
const tiny = () => llamaLayout(configs.tinyLlama);
const bins = (...sizes) => sizes.map((size, index) => largeFile(numbered("pytorch_model", index, sizes.length, "bin"), size));

/** One tensor set per layer, the head alone at the end: the shape of the very large repositories. */
function shardPerLayer(tensors, layers) {
  const shards = Array.from({ length: layers + 1 }, () => []);
  for (const t of tensors) {
    const layer = /layers\.(\d+)\./.exec(t.name);
    shards[layer ? Number(layer[1]) : t.name === "model.embed_tokens.weight" ? 0 : layers].push(t);
  }
  return shards;
}

const manyLayers = { ...configs.llama31_8b, num_hidden_layers: 162, rope_scaling: null };
const manyNames = { ...configs.tinyLlama, hidden_size: 512, intermediate_size: 1376, num_hidden_layers: 128, num_attention_heads: 8, num_key_value_heads: 2 };
const unknownFamily = { ...configs.tinyLlama, architectures: ["ZorbluxForCausalLM"], model_type: "zorblux" };

/** A LoRA adapter as PEFT names its tensors. */
function loraLayout({ hidden_size: hidden, num_hidden_layers: layers, num_attention_heads: heads, num_key_value_heads: kvHeads = heads }, rank) {
  const outputs = { q_proj: hidden, v_proj: (hidden / heads) * kvHeads };
  return Array.from({ length: layers }, (_, layer) => Object.entries(outputs).flatMap(([name, output]) => {
    const path = `base_model.model.model.layers.${layer}.self_attn.${name}`;
    return [tensor(`${path}.lora_A.weight`, "BF16", rank, hidden), tensor(`${path}.lora_B.weight`, "BF16", output, rank)];
  })).flat();
}

/** A pipeline of two parts with a few tensors each, and one file that holds all of it once more. */
function pipelineRepository(id) {
  const index = { _class_name: "FluxPipeline", transformer: ["diffusers", "FluxTransformer2DModel"], vae: ["diffusers", "AutoencoderKL"], scheduler: ["diffusers", "FlowMatchEulerDiscreteScheduler"] };
  return repository({
    id,
    files: [
      smallFile("model_index.json", json(index)),
      smallFile("transformer/config.json", json({ _class_name: "FluxTransformer2DModel", num_layers: 1, num_single_layers: 1, guidance_embeds: true })),
      weightFile("transformer/diffusion_pytorch_model-00001-of-00002.safetensors", [tensor("x_embedder.weight", "BF16", 3072, 64)]),
      weightFile("transformer/diffusion_pytorch_model-00002-of-00002.safetensors", [tensor("proj_out.weight", "BF16", 64, 3072)]),
      smallFile("vae/config.json", json({ _class_name: "AutoencoderKL", block_out_channels: [128, 256, 512, 512], latent_channels: 16 })),
      weightFile("vae/diffusion_pytorch_model.safetensors", [tensor("decoder.conv_in.weight", "BF16", 512, 16, 3, 3)]),
      weightFile("vae/diffusion_pytorch_model.fp16.safetensors", [tensor("decoder.conv_in.weight", "F16", 512, 16, 3, 3)]),
      weightFile("whole.safetensors", [tensor("everything", "BF16", 1_000_000_000)]),
    ],
  });
}

function brokenWeights(id, head, size) {
  return repository({ id, config: configs.tinyLlama, files: [largeFile("model.safetensors", size, head)] });
}

// A vocabulary of more than the first range.
const tinyMetadata = ggufMetadata(configs.tinyLlama, Array.from({ length: 32_000 }, (_, index) => `a token of some length, number ${index}`));
const soundHead = safetensorsHead(tiny());
const tinyBytes = sum(tiny(), dataBytes);

function unsoundOffsets() {
  // Every tensor is said to begin where the first one does.
  const header = JSON.parse(new TextDecoder().decode(soundHead.subarray(8)));
  for (const [name, entry] of Object.entries(header)) {
    if (name !== "__metadata__") entry.data_offsets = [0, entry.data_offsets[1] - entry.data_offsets[0]];
  }
  return frame(JSON.stringify(header));
}

export function repositories() {
  return [
    repository({
      id: "mistralai/Mistral-7B-v0.1",
      config: configs.mistral7b,
      shards: splitBySize(llamaLayout(configs.mistral7b), 10 * GB),
      files: bins(9_943_028_044, 5_064_823_659), // the same weights a second time: must not be added up
    }),
    repository({
      id: "mistralai/Mistral-7B-Instruct-v0.2",
      config: configs.mistral7bInstruct,
      shards: splitBySize(llamaLayout(configs.mistral7bInstruct), 5 * GB),
      files: bins(4_943_186_568, 4_999_844_744, 4_540_537_414),
    }),
    repository({
      id: "mistralai/Mistral-7B-v0.3",
      config: configs.mistral7bV3,
      shards: splitBySize(llamaLayout(configs.mistral7bV3), 5 * GB),
      // The vendor's own layout next to the sharded one: again the same weights.
      files: [weightFile("consolidated.safetensors", llamaLayout(configs.mistral7bV3).map((t) => ({ ...t, name: t.name.replace(/^model\./, "") })))],
    }),
    repository({
      id: "openai-community/gpt2",
      config: configs.gpt2,
      shards: [gpt2Layout(configs.gpt2)],
      files: [largeFile("pytorch_model.bin", 548_118_077), largeFile("onnx/decoder_model.onnx", 653_665_842)],
    }),
    repository({
      id: "Qwen/Qwen2-7B",
      config: configs.qwen2_7b,
      shards: splitBySize(llamaLayout(configs.qwen2_7b, { attentionBias: true }), 4 * GB),
    }),
    repository({
      id: "Qwen/Qwen3-4B",
      config: configs.qwen3_4b,
      shards: splitBySize(llamaLayout(configs.qwen3_4b, { headNorms: true }), 4 * GB),
    }),
    repository({
      id: "mistralai/Mixtral-8x7B-v0.1",
      config: configs.mixtral8x7b,
      shards: splitBySize(llamaLayout(configs.mixtral8x7b), 5 * GB),
    }),
    repository({
      id: "meta-llama/Llama-3.1-8B",
      config: configs.llama31_8b,
      shards: splitBySize(llamaLayout(configs.llama31_8b), 5 * GB),
      files: [largeFile("original/consolidated.00.pth", 16_060_617_592)],
      gated: "manual",
    }),

    pipelineRepository("stand-in/pipeline"),
    repository({
      id: "stand-in/lora",
      files: [
        smallFile("adapter_config.json", json({ peft_type: "LORA", base_model_name_or_path: "stand-in/mixed-dtypes", r: 8, target_modules: ["q_proj", "v_proj"] })),
        weightFile("adapter_model.safetensors", loraLayout(configs.tinyLlama, 8)),
      ],
    }),
    repository({
      id: "stand-in/embedder",
      config: configs.tinyLlama,
      shards: [tiny()],
      files: [
        smallFile("modules.json", json(["Transformer", "1_Pooling", "2_Dense"].map((path, idx) => ({
          idx, name: String(idx), path: idx ? path : "", type: `sentence_transformers.models.${path.replace(/^\d_/, "")}`,
        })))),
        smallFile("2_Dense/config.json", json({ in_features: configs.tinyLlama.hidden_size, out_features: 64, bias: true })),
        weightFile("2_Dense/model.safetensors", [tensor("linear.weight", "F32", 64, configs.tinyLlama.hidden_size), tensor("linear.bias", "F32", 64)]),
      ],
    }),

    repository({ id: "stand-in/mixed-dtypes", config: configs.tinyLlama, shards: [llamaLayout(configs.tinyLlama, { normType: "F32" })] }),
    repository({ id: "stand-in/unsaid-gptq", config: configs.tinyLlama, shards: [gptqLayout(configs.tinyLlama)] }),
    repository({ id: "stand-in/only-bin", config: configs.tinyLlama, files: [largeFile("pytorch_model.bin", tinyBytes + 61_077)] }),
    repository({ id: "stand-in/long-header", config: manyNames, shards: [llamaLayout(manyNames)] }),
    repository({ id: "stand-in/unknown-family", config: unknownFamily, shards: [llamaLayout(unknownFamily)] }),
    repository({
      id: "stand-in/bare-infinity",
      config: JSON.stringify({ ...configs.tinyLlama, time_step_limit: [0.0, "@"], note: "Infinity in a string stays" }, null, 2).replace('"@"', "Infinity"),
      shards: [tiny()],
    }),
    repository({ id: "stand-in/many-shards", config: manyLayers, shards: shardPerLayer(llamaLayout(manyLayers), 162) }),
    repository({ id: "stand-in/private", config: configs.tinyLlama, shards: [tiny()], private: true }),
    repository({
      id: "stand-in/tiny-GGUF",
      files: [
        ggufFile("tiny-Q4_K_M.gguf", tinyMetadata, ggufLayout(configs.tinyLlama, "Q4_K", "Q6_K")),
        ggufFile("tiny-Q8_0.gguf", tinyMetadata, ggufLayout(configs.tinyLlama, "Q8_0")),
        ...ggufParts("F16/tiny-F16", tinyMetadata, ggufLayout(configs.tinyLlama, "F16"), 3),
        largeFile("tiny-imatrix.gguf", 1_000_000),
        smallFile("config.json", json(configs.tinyLlama)),
      ],
    }),
    repository({ id: "stand-in/one-GGUF", files: [ggufFile("one.Q8_0.gguf", tinyMetadata, ggufLayout(configs.tinyLlama, "Q8_0"))] }),
    repository({ id: "stand-in/no-config", files: [largeFile("weights.bin", 1_000_000)] }),

    repository({
      id: "broken/malformed-config",
      config: JSON.stringify(configs.tinyLlama, null, 2).slice(0, 300),
      shards: [tiny()],
    }),
    brokenWeights("broken/corrupt-header", frame('{"__metadata__":{"format":"pt"},"model.embed_tokens.weight":{"dtype":"BF16","sha'), 2_200_000_000),
    brokenWeights("broken/endless-header", frame("{}", 2n ** 60n), 2_200_000_000),
    brokenWeights("broken/unsound-offsets", unsoundOffsets(), soundHead.length + tinyBytes),
    brokenWeights("broken/short-file", soundHead, soundHead.length + 1_000_000),
    repository({ id: "broken/cut-GGUF", files: [largeFile("cut.Q8_0.gguf", 1_000_000, ggufHead(tinyMetadata, ggufLayout(configs.tinyLlama, "Q8_0")).head)] }),
    repository({
      id: "broken/cut-off",
      config: configs.tinyLlama,
      shards: [tiny()],
      behaviour: { "model.safetensors": { cutAfter: 0.5 } },
    }),

    repository({ id: "busy/rate-limited", config: configs.tinyLlama, shards: [tiny()], behaviour: { "": { status: 429 } } }),
    repository({ id: "busy/server-error", config: configs.tinyLlama, shards: [tiny()], behaviour: { "": { status: 503 } } }),
    repository({ id: "busy/slow", config: configs.tinyLlama, shards: [tiny()], behaviour: { "model.safetensors": { chunkBytes: 2048, chunkDelay: 2000 } } }),
    repository({ id: "busy/held", config: configs.tinyLlama, shards: [tiny()], behaviour: { "model.safetensors": { hold: true } } }),
  ];
}

/** Tokens the stand-in knows, and the gated or private repositories that each opens. */
export const tokens = {
  hf_good: ["meta-llama/Llama-3.1-8B", "stand-in/private"],
  hf_bad: [],
};

/** Old one-part names, which the Hub redirects. */
export const aliases = { gpt2: "openai-community/gpt2" };
