// A model of random numbers, small enough for any adapter: Llama's layout, byte-level vocabulary, Q4_1 weights and a
// Q8_0 embedding that is the head too, as in the demo's model.
// node tiny-model.mjs FILE.gguf [SEED]

import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const SHAPE = { layers: 2, width: 64, feedForward: 128, heads: 4, kvHeads: 2, context: 512 };
const ALIGNMENT = 32;
const [Q4_1, Q8_0, F32] = [3, 8, 0];

/** Bytes of the GGUF file. */
export function tinyModel(seed = 7) {
  const random = generator(seed);
  const { layers, width, feedForward, heads, kvHeads, context } = SHAPE;
  const tokens = vocabulary();
  const kv = (width / heads) * kvHeads;
  const tensors = [['token_embd.weight', [width, tokens.length], Q8_0]];
  for (let i = 0; i < layers; i++) {
    const add = (name, rows, columns) => tensors.push([`blk.${i}.${name}.weight`, [columns, rows], Q4_1]);
    tensors.push([`blk.${i}.attn_norm.weight`, [width], F32]);
    add('attn_q', width, width);
    add('attn_k', kv, width);
    add('attn_v', kv, width);
    add('attn_output', width, width);
    tensors.push([`blk.${i}.ffn_norm.weight`, [width], F32]);
    add('ffn_gate', feedForward, width);
    add('ffn_up', feedForward, width);
    add('ffn_down', width, feedForward);
  }
  tensors.push(['output_norm.weight', [width], F32]);

  const header = new Writer();
  const metadata = [
    ['general.architecture', 'llama'],
    ['general.name', 'Tiny random model'],
    ['llama.block_count', layers],
    ['llama.embedding_length', width],
    ['llama.feed_forward_length', feedForward],
    ['llama.attention.head_count', heads],
    ['llama.attention.head_count_kv', kvHeads],
    ['llama.attention.layer_norm_rms_epsilon', new Float32Array([1e-5])],
    ['llama.rope.freq_base', new Float32Array([10000])],
    ['llama.rope.dimension_count', width / heads],
    ['llama.context_length', context],
    ['llama.vocab_size', tokens.length],
    ['tokenizer.ggml.model', 'gpt2'],
    ['tokenizer.ggml.pre', 'smollm'],
    ['tokenizer.ggml.tokens', tokens],
    ['tokenizer.ggml.token_type', Int32Array.from(tokens, (_, i) => (i < 3 ? 3 : 1))],
    ['tokenizer.ggml.merges', ['Ġ t', 'h e', 'Ġt he']],
    ['tokenizer.ggml.bos_token_id', 1],
    ['tokenizer.ggml.eos_token_id', 2],
    ['tokenizer.ggml.add_bos_token', false],
  ];
  header.text('GGUF').u32(3).u64(tensors.length).u64(metadata.length);
  for (const [key, value] of metadata) header.string(key).value(value);
  const data = new Writer();
  for (const [name, shape, type] of tensors) {
    header.string(name).u32(shape.length);
    for (const size of shape) header.u64(size);
    header.u32(type).u64(data.length);
    const count = shape.reduce((product, size) => product * size);
    const block = { [Q4_1]: q4_1, [Q8_0]: q8_0, [F32]: f32 }[type];
    for (let i = 0; i < count; i += 32) block(data, random, Math.min(32, count - i));
    data.pad(ALIGNMENT);
  }
  header.pad(ALIGNMENT);
  return Buffer.concat([header.bytes(), data.bytes()]);
}

/** Control tokens, the 256 bytes as GPT-2 writes them, and three merges. */
function vocabulary() {
  const printable = (byte) => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  let next = 256;
  const bytes = Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(printable(byte) ? byte : next++));
  const tokens = ['<|endoftext|>', '<|im_start|>', '<|im_end|>', ...bytes, 'Ġt', 'he', 'Ġthe'];
  while (tokens.length % 32 !== 0) tokens.push(`<unused${tokens.length}>`);
  return tokens;
}

function q4_1(data, random) {
  data.f16(0.02 + 0.02 * random()).f16(-0.15 - 0.1 * random());
  for (let i = 0; i < 16; i++) data.u8(Math.floor(random() * 256));
}

function q8_0(data, random) {
  data.f16(0.004 + 0.004 * random());
  for (let i = 0; i < 32; i++) data.u8(Math.floor(random() * 256));
}

function f32(data, random, count) {
  for (let i = 0; i < count; i++) data.f32(0.8 + 0.4 * random());
}

/** Numbers in 0..1, mulberry32. */
function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

class Writer {
  parts = [];
  length = 0;

  push(bytes) {
    this.parts.push(bytes);
    this.length += bytes.length;
    return this;
  }
  number(size, write) {
    const bytes = Buffer.alloc(size);
    write(bytes);
    return this.push(bytes);
  }
  u8(value) {
    return this.number(1, (b) => b.writeUInt8(value));
  }
  u32(value) {
    return this.number(4, (b) => b.writeUInt32LE(value));
  }
  u64(value) {
    return this.number(8, (b) => b.writeBigUInt64LE(BigInt(value)));
  }
  f32(value) {
    return this.number(4, (b) => b.writeFloatLE(value));
  }
  /** Of a normal number between 2^-14 and 1, or its negative. */
  f16(value) {
    const exponent = Math.floor(Math.log2(Math.abs(value)));
    const mantissa = Math.round((Math.abs(value) / 2 ** exponent - 1) * 1024);
    const bits = ((exponent + 15) << 10) + mantissa + (value < 0 ? 0x8000 : 0);
    return this.number(2, (b) => b.writeUInt16LE(bits));
  }
  text(value) {
    return this.push(Buffer.from(value));
  }
  string(value) {
    const bytes = Buffer.from(value);
    return this.u64(bytes.length).push(bytes);
  }
  value(value) {
    if (typeof value === 'string') return this.u32(8).string(value);
    if (typeof value === 'boolean') return this.u32(7).u8(value ? 1 : 0);
    if (typeof value === 'number') return this.u32(4).u32(value);
    if (value instanceof Float32Array) return this.u32(6).f32(value[0]);
    if (value instanceof Int32Array) {
      this.u32(9).u32(5).u64(value.length);
      value.forEach((one) => this.u32(one));
      return this;
    }
    this.u32(9).u32(8).u64(value.length);
    value.forEach((one) => this.string(one));
    return this;
  }
  pad(alignment) {
    return this.push(Buffer.alloc((alignment - (this.length % alignment)) % alignment));
  }
  bytes() {
    return Buffer.concat(this.parts);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(process.argv[2], tinyModel(Number(process.argv[3] ?? 7)));
