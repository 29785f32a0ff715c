// What the adapter can do at best: multiply-adds in registers, and a streaming read.
import type { Device } from 'sunfleck/grammar';
import { compile, dispatch } from './pipeline.js';
import type { Timer } from './timer.js';

const STEPS = 64;
const REPEAT = 8;

/** GFLOP/s of multiply-adds of f32 in the best of some variants. */
export async function fma(device: Device, timer: Timer, signal: AbortSignal): Promise<number> {
  const software = device.capabilities.class === 'software';
  const [workgroup, groups] = software ? [64, 128] : [256, 4096];
  let best = 0;
  for (const chains of [4, 8]) {
    const numbers = Array.from({ length: chains }, (_, i) => i);
    const code = `
      @group(0) @binding(0) var<storage, read> params: array<f32>;
      @group(0) @binding(1) var<storage, read_write> result: array<f32>;
      @compute @workgroup_size(${workgroup})
      fn main(@builtin(global_invocation_id) id: vec3<u32>) {
        let a = vec4(params[0]);
        let b = vec4(params[1]);
        ${numbers.map((i) => `var s${i} = vec4<f32>((id.xxxx + vec4(0u, 1u, 2u, 3u)) % ${7 + i}u);`).join('\n')}
        for (var i = 0u; i < ${STEPS}u; i++) {
          ${Array.from({ length: REPEAT }, () => numbers.map((i) => `s${i} = fma(s${i}, a, b);`).join(' ')).join('\n')}
        }
        let sum = ${numbers.map((i) => `s${i}`).join(' + ')};
        result[id.x] = sum.x + sum.y + sum.z + sum.w;
      }`;
    const pipeline = await compile(device, `fma ${chains}`, code);
    const params = device.buffer(new Float32Array([0.75, 0.5]));
    const result = device.storage(workgroup * groups * 4);
    const record = dispatch(device, pipeline, [params, result], [groups, 1, 1]);
    const per = await timer.time(record, { signal });
    best = Math.max(best, (workgroup * groups * STEPS * REPEAT * chains * 4 * 2) / per / 1e9);
    params.destroy();
    result.destroy();
  }
  return best;
}

/** GB/s of reading a buffer that no cache holds. */
export async function read(device: Device, timer: Timer, signal: AbortSignal): Promise<number> {
  const software = device.capabilities.class === 'software';
  const { maxStorageBufferBindingSize: binding, maxBufferSize } = device.gpuDevice.limits;
  const most = Math.min(binding, maxBufferSize, (software ? 64 : 512) << 20);
  const size = 2 ** Math.floor(Math.log2(most));
  const stream = device.storage(size, 'stream');
  // Random words: drivers may store zeros in less.
  const block = new Uint32Array(1 << 20);
  for (let i = 0, x = 0x9e3779b9; i < block.length; i++) block[i] = x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
  for (let at = 0; at < size; at += block.byteLength) device.gpuDevice.queue.writeBuffer(stream, at, block, 0, Math.min(block.length, (size - at) / 4));
  let best = 0;
  for (const [workgroup, loads] of [[64, 16], [256, 16]] as const) {
    const code = `
      @group(0) @binding(0) var<storage, read> stream: array<vec4<u32>>;
      @group(0) @binding(1) var<storage, read_write> result: array<u32>;
      @compute @workgroup_size(${workgroup})
      fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
        let at = (group.y * groups.x + group.x) * ${workgroup * loads}u + lane;
        var sum = vec4(0u);
        ${Array.from({ length: loads }, (_, i) => `sum ^= stream[at + ${i * workgroup}u];`).join('\n')}
        if (all(sum == vec4(0x5eed5eedu))) { result[lane] = sum.x; }
      }`;
    const pipeline = await compile(device, `read ${workgroup}`, code);
    const result = device.storage(workgroup * 4);
    const groups = size / (16 * workgroup * loads);
    const x = Math.min(groups, 32768);
    const per = await timer.time(dispatch(device, pipeline, [stream, result], [x, groups / x, 1]), { signal });
    best = Math.max(best, size / per / 1e9);
    result.destroy();
  }
  stream.destroy();
  return best;
}
