// The rival: attention in three passes over a matrix of scores, the textbook's way. The kernels are those of
// `cargo xtask bench attention`.
import type { Device } from 'sunfleck/grammar';
import elements from '../../../benches/attention/naive_f32.wgsl?raw';
import params from '../../../benches/attention/naive_params.wgsl?raw';
import scores from '../../../benches/attention/naive_scores.wgsl?raw';
import softmax from '../../../benches/attention/naive_softmax.wgsl?raw';
import values from '../../../benches/attention/naive_values.wgsl?raw';
import { USAGE, compile, dispatch } from './pipeline.js';

export interface Shape {
  queries: number;
  keys: number;
  heads: number;
  kvHeads: number;
  dim: number;
}

/** Records naive causal attention; K and V are `[kv_head, key, dim]`. */
export async function rival(device: Device, shape: Shape, buffers: { query: GPUBuffer; key: GPUBuffer; value: GPUBuffer; output: GPUBuffer }): Promise<{ record: (encoder: GPUCommandEncoder) => void; destroy(): void }> {
  const { queries, keys, heads, kvHeads, dim } = shape;
  const passes = await Promise.all(
    [scores, softmax, values].map((text, i) => compile(device, `naive ${i}`, [params, elements, text].join('\n'))),
  );
  const words = new DataView(new ArrayBuffer(32));
  [queries, keys, heads, heads / kvHeads, dim / 4, 0, 1].forEach((word, i) => words.setUint32(i * 4, word, true));
  words.setFloat32(28, 1 / Math.sqrt(dim), true);
  const uniform = device.gpuDevice.createBuffer({ size: 32, usage: USAGE.uniform | USAGE.copyTarget });
  device.gpuDevice.queue.writeBuffer(uniform, 0, words);
  const matrix = device.storage(heads * queries * keys * 4, 'scores');
  const { query, key, value, output } = buffers;
  const steps = [
    dispatch(device, passes[0]!, [uniform, query, key, matrix], [Math.ceil(keys / 64), queries, heads]),
    dispatch(device, passes[1]!, [uniform, matrix], [queries, heads, 1]),
    dispatch(device, passes[2]!, [uniform, matrix, value, output], [Math.ceil((queries * dim) / 4 / 64), heads, 1]),
  ];
  return {
    record: (encoder) => steps.forEach((step) => step(encoder)),
    destroy: () => [uniform, matrix].forEach((buffer) => buffer.destroy()),
  };
}
