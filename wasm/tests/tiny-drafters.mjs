// Safetensors files of random numbers for the trained drafters of web-demo/tests/tiny-model.mjs: an MTP module, two
// Medusa heads, an exit after the first layer. What they draft is mostly wrong; the answers must not change by it.

const { width, feedForward, query, kv } = { width: 64, feedForward: 128, query: 64, kv: 32 };

const SHAPES = {
  mtp: {
    'mtp.hidden_norm.weight': [width],
    'mtp.embed_norm.weight': [width],
    'mtp.proj.weight': [width, 2 * width],
    'mtp.attn_norm.weight': [width],
    'mtp.attn_q.weight': [query, width],
    'mtp.attn_k.weight': [kv, width],
    'mtp.attn_v.weight': [kv, width],
    'mtp.attn_output.weight': [width, query],
    'mtp.ffn_norm.weight': [width],
    'mtp.ffn_gate.weight': [feedForward, width],
    'mtp.ffn_up.weight': [feedForward, width],
    'mtp.ffn_down.weight': [width, feedForward],
    'mtp.output_norm.weight': [width],
  },
  medusa: Object.fromEntries([0, 1].flatMap((head) => [[`medusa.${head}.linear.weight`, [width, width]], [`medusa.${head}.linear.bias`, [width]]])),
  exit: { 'exit.1.norm.weight': [width], 'exit.1.linear.weight': [width, width], 'exit.1.linear.bias': [width] },
};

/** The file of one kind. */
export function tinyDrafter(kind) {
  const header = {};
  const data = [];
  let end = 0;
  let state = 1;
  for (const [name, shape] of Object.entries(SHAPES[kind])) {
    const count = shape.reduce((product, size) => product * size);
    const bytes = Buffer.alloc(2 * count);
    for (let i = 0; i < count; i++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      // Halves with exponents from 2^-5 to 2^-2 and either sign; norms keep what they scale, near 1.
      const bits = name.endsWith('norm.weight') ? 0x3c00 : ((state >>> 16) & 0x8000) | (0x2800 + ((state >>> 8) & 0x0fff));
      bytes.writeUInt16LE(bits, 2 * i);
    }
    header[name] = { dtype: 'F16', shape, data_offsets: [end, (end += bytes.length)] };
    data.push(bytes);
  }
  const text = Buffer.from(JSON.stringify(header).padEnd(Math.ceil(JSON.stringify(header).length / 8) * 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return new Uint8Array(Buffer.concat([length, text, ...data]));
}
