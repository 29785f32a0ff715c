//! A small GGUF writer, and random Llama-family models written with it.

#![allow(dead_code)] // each test binary uses a part

use sunfleck::reference::{
    blocks::{self, BlockFormat},
    decoder::{DecoderConfig, DecoderWeights, Family, LayerWeights},
};

/// A metadata value.
#[derive(Clone)]
pub enum Value {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    I32s(Vec<i32>),
    F32s(Vec<f32>),
    /// Any type: its number in the format, and the bytes as they are.
    Raw(u32, Vec<u8>),
}

/// A file in the making.
#[derive(Default)]
pub struct GgufWriter {
    pub metadata: Vec<(String, Value)>,
    pub tensors: Vec<(String, Vec<u64>, u32, Vec<u8>)>, // name, shape in ggml's order, type, data
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

fn put_array<T>(bytes: &mut Vec<u8>, kind: u32, items: &[T], put: impl Fn(&mut Vec<u8>, &T)) {
    bytes.extend(9u32.to_le_bytes());
    bytes.extend(kind.to_le_bytes());
    bytes.extend((items.len() as u64).to_le_bytes());
    items.iter().for_each(|item| put(bytes, item));
}

impl GgufWriter {
    pub fn set(&mut self, key: &str, value: Value) {
        self.metadata.retain(|(k, _)| k != key);
        self.metadata.push((key.to_owned(), value));
    }

    pub fn remove(&mut self, key: &str) {
        self.metadata.retain(|(k, _)| k != key);
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            put_text(&mut out, key);
            match value {
                Value::U32(v) => {
                    out.extend(4u32.to_le_bytes());
                    out.extend(v.to_le_bytes());
                }
                Value::F32(v) => {
                    out.extend(6u32.to_le_bytes());
                    out.extend(v.to_le_bytes());
                }
                Value::Bool(v) => {
                    out.extend(7u32.to_le_bytes());
                    out.push(u8::from(*v));
                }
                Value::Text(v) => {
                    out.extend(8u32.to_le_bytes());
                    put_text(&mut out, v);
                }
                Value::Texts(v) => put_array(&mut out, 8, v, |out, text| put_text(out, text)),
                Value::I32s(v) => put_array(&mut out, 5, v, |out, n| out.extend(n.to_le_bytes())),
                Value::Raw(kind, bytes) => {
                    out.extend(kind.to_le_bytes());
                    out.extend(bytes);
                }
                Value::F32s(v) => put_array(&mut out, 6, v, |out, n| out.extend(n.to_le_bytes())),
            }
        }
        let mut offset = 0u64;
        for (name, shape, kind, data) in &self.tensors {
            put_text(&mut out, name);
            out.extend((shape.len() as u32).to_le_bytes());
            shape.iter().for_each(|n| out.extend(n.to_le_bytes()));
            out.extend(kind.to_le_bytes());
            out.extend(offset.to_le_bytes());
            offset += (data.len() as u64).next_multiple_of(32);
        }
        out.resize(out.len().next_multiple_of(32), 0);
        for (_, _, _, data) in &self.tensors {
            out.extend(data);
            out.resize(out.len().next_multiple_of(32), 0);
        }
        out
    }
}

/// ggml's number of a block format.
pub fn ggml_type(format: BlockFormat) -> u32 {
    match format {
        BlockFormat::F32 => 0,
        BlockFormat::F16 => 1,
        BlockFormat::Q4_0 => 2,
        BlockFormat::Q4_1 => 3,
        BlockFormat::Q5_0 => 6,
        BlockFormat::Q5_1 => 7,
        BlockFormat::Q8_0 => 8,
        BlockFormat::Q4K => 12,
        BlockFormat::Q5K => 13,
        BlockFormat::Q6K => 14,
        BlockFormat::Bf16 => 30,
        other => panic!("no ggml type for {other:?}"),
    }
}

/// Which parts of a tiny model have which storage.
#[derive(Clone, Copy)]
pub struct Storage {
    pub matrices: BlockFormat,
    /// Of `attn_v`, `ffn_gate` and `output`, where files often differ from the rest.
    pub odd_ones: BlockFormat,
    pub tied: bool,
}

/// The name of the family in files: the first that has what the configuration has.
fn architecture(config: &DecoderConfig, extras: Extras) -> &'static str {
    match config.family {
        Family {
            no_rope_interval: 4,
            ..
        } => "smollm3",
        Family {
            rope_halves: true, ..
        } if extras.head_norms => "qwen3",
        Family {
            rope_halves: true, ..
        } => "qwen2",
        _ => "llama",
    }
}

/// Weights that only some families have.
#[derive(Clone, Copy, Default)]
pub struct Extras {
    pub biases: bool,
    pub head_norms: bool,
}

/// A random Llama model: the file, and the twin's weights as the file stores them.
pub fn tiny_llama(
    config: &DecoderConfig,
    storage: Storage,
    normals: impl FnMut(usize) -> Vec<f32>,
) -> (GgufWriter, DecoderWeights) {
    tiny_model(config, storage, Extras::default(), normals)
}

/// A random model: the file, and the twin's weights as the file stores them.
pub fn tiny_model(
    config: &DecoderConfig,
    storage: Storage,
    extras: Extras,
    mut normals: impl FnMut(usize) -> Vec<f32>,
) -> (GgufWriter, DecoderWeights) {
    let c = config;
    let mut file = GgufWriter::default();
    let family = architecture(c, extras);
    file.set("general.architecture", Value::Text(family.into()));
    for (key, value) in [
        ("block_count", c.layers),
        ("context_length", 512),
        ("embedding_length", c.width),
        ("feed_forward_length", c.ff),
        ("attention.head_count", c.heads),
        ("attention.head_count_kv", c.kv_heads),
        ("attention.key_length", c.head_dim),
        ("attention.value_length", c.head_dim),
        ("rope.dimension_count", c.rope_dim),
    ] {
        file.set(&format!("{family}.{key}"), Value::U32(value as u32));
    }
    let base = format!("{family}.rope.freq_base");
    file.set(&base, Value::F32(c.rope_base as f32));
    file.set(
        &format!("{family}.attention.layer_norm_rms_epsilon"),
        Value::F32(c.eps as f32),
    );
    if let Some(window) = c.family.window {
        let key = format!("{family}.attention.sliding_window");
        file.set(&key, Value::U32(window as u32));
    }
    if let Some(factor) = c.family.rope_factor {
        let key = format!("{family}.rope.scaling");
        file.set(&format!("{key}.type"), Value::Text("linear".into()));
        file.set(&format!("{key}.factor"), Value::F32(factor as f32));
    }
    if let Some(divisors) = &c.rope_divisors {
        let bytes = divisors.iter().flat_map(|v| (*v as f32).to_le_bytes());
        let shape = vec![divisors.len() as u64];
        let name = "rope_freqs.weight".to_owned();
        file.tensors.push((name, shape, 0, bytes.collect()));
    }

    let mut matrix = |file: &mut GgufWriter, name: String, rows: usize, columns: usize, format| {
        let scale = 1.0 / (columns as f32).sqrt();
        let values: Vec<f32> = normals(rows * columns).iter().map(|v| v * scale).collect();
        let bytes = blocks::quantise(format, &values).unwrap();
        let stored = blocks::dequantise(format, &bytes).unwrap();
        let shape = vec![columns as u64, rows as u64];
        file.tensors.push((name, shape, ggml_type(format), bytes));
        stored.iter().map(|v| *v as f32).collect::<Vec<f32>>()
    };
    let vector = |file: &mut GgufWriter, name: String, width: usize| {
        let values: Vec<f32> = (0..width).map(|i| 0.75 + (i % 7) as f32 * 0.1).collect();
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        file.tensors.push((name, vec![width as u64], 0, bytes));
        values
    };
    let (most, odd) = (storage.matrices, storage.odd_ones);
    let query = c.heads * c.head_dim;
    let kv = c.kv_heads * c.head_dim;
    let embedding = matrix(
        &mut file,
        "token_embd.weight".into(),
        c.vocab,
        c.width,
        most,
    );
    let mut layers = Vec::new();
    for i in 0..c.layers {
        let name = |part: &str| format!("blk.{i}.{part}.weight");
        layers.push(LayerWeights {
            attention_norm: vector(&mut file, name("attn_norm"), c.width),
            query: matrix(&mut file, name("attn_q"), query, c.width, most),
            key: matrix(&mut file, name("attn_k"), kv, c.width, most),
            value: matrix(&mut file, name("attn_v"), kv, c.width, odd),
            attention_output: matrix(&mut file, name("attn_output"), c.width, query, most),
            biases: extras.biases.then(|| {
                [("attn_q", query), ("attn_k", kv), ("attn_v", kv)]
                    .map(|(part, width)| vector(&mut file, format!("blk.{i}.{part}.bias"), width))
            }),
            head_norms: extras.head_norms.then(|| {
                ["attn_q_norm", "attn_k_norm"].map(|part| vector(&mut file, name(part), c.head_dim))
            }),
            ff_norm: vector(&mut file, name("ffn_norm"), c.width),
            gate: matrix(&mut file, name("ffn_gate"), c.ff, c.width, odd),
            up: matrix(&mut file, name("ffn_up"), c.ff, c.width, most),
            down: matrix(&mut file, name("ffn_down"), c.width, c.ff, most),
        });
    }
    let output_norm = vector(&mut file, "output_norm.weight".into(), c.width);
    let output =
        (!storage.tied).then(|| matrix(&mut file, "output.weight".into(), c.vocab, c.width, odd));
    let weights = DecoderWeights {
        embedding,
        layers,
        output_norm,
        output,
    };
    (file, weights)
}
