// The benchmarks of the kernels tab.
import { Attention, DraftTree, Verify, lengths, type AttentionProblem, type Device } from 'sunfleck/grammar';
import type { BenchReport, BenchRow, Event } from '../protocol.js';
import { fma, read } from './peaks.js';
import { rival, type Shape } from './rival.js';
import { Timer } from './timer.js';

interface Case extends Shape {
  kind: 'prefill' | 'decode' | 'verify';
}

interface Context {
  quick: boolean;
  signal: AbortSignal;
  tell: (event: Event) => void;
}

const MODEL = { heads: 9, kvHeads: 3, dim: 64 };

function cases(software: boolean, quick: boolean): Case[] {
  const keys = software ? 2048 : 8192;
  const prefill = software ? 256 : 1024;
  const all: Case[] = [
    { kind: 'prefill', ...MODEL, queries: prefill, keys: prefill },
    { kind: 'decode', ...MODEL, queries: 1, keys },
    { kind: 'verify', ...MODEL, queries: 16, keys },
    { kind: 'decode', heads: 32, kvHeads: 8, dim: 128, queries: 1, keys },
    { kind: 'verify', heads: 32, kvHeads: 8, dim: 128, queries: 16, keys },
  ];
  return quick ? all.slice(0, 3) : all;
}

/** Measures peaks, then every case, telling each as it is done. */
export async function bench(device: Device, { quick, signal, tell }: Context): Promise<BenchReport> {
  const timer = new Timer(device);
  const peaks = { fma: await fma(device, timer, signal), read: await read(device, timer, signal) };
  tell({ kind: 'peaks', ...peaks });
  const rows: BenchRow[] = [];
  for (const one of cases(device.capabilities.class === 'software', quick)) {
    const row = await attention(device, timer, one, peaks, signal);
    rows.push(row);
    tell({ kind: 'bench', row });
  }
  const row = await verification(device, timer, peaks, signal);
  rows.push(row);
  tell({ kind: 'bench', row });
  return { ...peaks, clock: timer.clock, rows };
}

/** Numbers between -1 and 1, the same for the same seed. */
function numbers(count: number, seed: number): Float32Array {
  const values = new Float32Array(count);
  let x = seed;
  for (let i = 0; i < count; i++) {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    values[i] = x / 2147483648 - 1;
  }
  return values;
}

/** `[token, head, dim]` as `[head, token, dim]`. */
function headMajor(values: Float32Array, heads: number, dim: number): Float32Array {
  const tokens = values.length / heads / dim;
  const moved = new Float32Array(values.length);
  for (let token = 0; token < tokens; token++) {
    for (let head = 0; head < heads; head++) {
      const from = (token * heads + head) * dim;
      moved.set(values.subarray(from, from + dim), (head * tokens + token) * dim);
    }
  }
  return moved;
}

async function attention(device: Device, timer: Timer, one: Case, peaks: { fma: number; read: number }, signal: AbortSignal): Promise<BenchRow> {
  const { kind, queries, keys, heads, kvHeads, dim } = one;
  const problem: AttentionProblem = { queryHeads: heads, kvHeads, headDim: dim, maxQueries: queries, maxKeys: keys, invariant: kind !== 'prefill' };
  const plan = await Attention.prepare(device, problem);
  const [q, k, v] = [numbers(queries * heads * dim, 1), numbers(keys * kvHeads * dim, 2), numbers(keys * kvHeads * dim, 3)];
  const io = {
    query: device.buffer(q),
    key: device.buffer(k),
    value: device.buffer(v),
    output: device.storage(q.byteLength),
    lengths: device.buffer(lengths([[queries, keys]])),
  };
  const naiveBuffers = {
    query: io.query,
    key: device.buffer(headMajor(k, kvHeads, dim)),
    value: device.buffer(headMajor(v, kvHeads, dim)),
    output: device.storage(q.byteLength),
  };
  try {
    const call = plan.bind(io);
    const ours = (encoder: GPUCommandEncoder) => call.encode(encoder, queries, keys);
    const naive = await rival(device, one, naiveBuffers);
    // Ours and the rival's in turns, so that a machine that throttles slows both.
    const first = await timer.time(ours, { signal });
    const other = await timer.time(naive.record, { signal });
    const second = await timer.time(ours, { signal });
    const per = Math.min(first, second);
    const [mine, theirs] = [new Float32Array(await device.read(io.output)), new Float32Array(await device.read(naiveBuffers.output))];
    let difference = 0;
    for (let i = 0; i < mine.length; i++) difference = Math.max(difference, Math.abs(mine[i]! - theirs[i]!));
    naive.destroy();
    const pairs = heads * queries * (keys - (queries - 1) / 2);
    const flops = pairs * dim * 4;
    const moved = (k.byteLength + v.byteLength + 2 * q.byteLength);
    const bound = { fma: flops / peaks.fma / 1e9, read: moved / peaks.read / 1e9 };
    const limit = bound.fma > bound.read ? 'FMA' : 'read';
    const row: BenchRow = {
      name: `${kind} ${queries}×${keys}, ${heads}/${kvHeads} heads of ${dim}`,
      what: { prefill: 'reading a prompt', decode: 'one token', verify: 'a draft of 15 tokens' }[kind],
      kernel: chosen(plan.explain(), kind),
      milliseconds: per * 1000,
      rate: (limit === 'FMA' ? flops : moved) / per / 1e9,
      unit: limit === 'FMA' ? 'GFLOP/s' : 'GB/s',
      ofPeak: Math.max(bound.fma, bound.read) / per,
      limit,
      naiveMilliseconds: other * 1000,
      difference,
    };
    // Both sum thousands of f32 products of numbers below 1 in some order.
    if (!(difference < 1e-4)) row.bad = `differs from the naive kernel by ${difference}`;
    return row;
  } finally {
    for (const buffer of [...Object.values(io), naiveBuffers.key, naiveBuffers.value, naiveBuffers.output]) buffer.destroy();
  }
}

/** The kernel of a plan that many rows get, or the one for the fewest. */
function chosen(explained: string, kind: Case['kind']): string {
  const names = [...explained.matchAll(/^(attention\/(?:decode|prefill)[^:\s]*)/gm)].map(([, name]) => name!);
  return (kind === 'decode' ? names[0] : names.at(-1)) ?? '';
}

async function verification(device: Device, timer: Timer, peaks: { read: number }, signal: AbortSignal): Promise<BenchRow> {
  const [maxNodes, vocabulary] = [16, 49152];
  const verify = await Verify.prepare(device, { maxNodes, vocabulary });
  const logits = numbers(maxNodes * vocabulary, 5).map((value) => value * 8);
  // Three continuations of five tokens; the target's likeliest token of each row decides.
  const tree = DraftTree.merge(1, [[2, 3, 4, 5, 6], [2, 7, 8, 9, 10], [11, 12, 13, 14, 15]], maxNodes);
  const io = { logits: device.buffer(logits), tree: device.buffer(tree.blob(maxNodes)), lengths: device.buffer(new Uint32Array([tree.length, 17, 0, 0])) };
  try {
    const call = verify.bind(io);
    call.setRequest(0, { rule: 'rejection', temperature: 0.8, seed: 1 });
    const per = await timer.time((encoder) => call.encode(encoder), { signal });
    const [verdict] = await call.read();
    const row: BenchRow = {
      name: `verification of ${tree.length} nodes, ${vocabulary.toLocaleString('en')} tokens`,
      what: 'rejection sampling over a tree',
      kernel: 'verify/{rows,children,joint,walk,sample}',
      milliseconds: per * 1000,
      rate: logits.byteLength / per / 1e9,
      unit: 'GB/s',
      ofPeak: logits.byteLength / peaks.read / 1e9 / per,
      limit: 'read',
    };
    if (!verdict || verdict.tokens.length !== verdict.path.length) row.bad = 'gave no verdict';
    return row;
  } finally {
    for (const buffer of Object.values(io)) buffer.destroy();
  }
}
