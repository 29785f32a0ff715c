import { checkBuffers, type BufferArgument } from './buffers.js';
import type { Device } from './device.js';
import { ArgumentError } from './errors.js';
import { call, glue, json, settle } from './module.js';

/** Storage of a tensor. `q8` and `q4` are those of caches. */
export type ElementType = 'f32' | 'f16' | 'bf16' | 'q8' | 'q4';

/** What attention is to compute. Tensors are dense, `[batch, token, head, dim]`. */
export interface AttentionProblem {
  queryHeads: number;
  /** Divides `queryHeads`; query heads share KV heads in groups. */
  kvHeads: number;
  /** From 4 to 256, a multiple of 4. */
  headDim: number;
  maxQueries: number;
  maxKeys: number;
  batch?: number;
  /** Head size of values; default `headDim`. */
  valueDim?: number;
  queryType?: ElementType;
  kvType?: ElementType;
  outputType?: ElementType;
  /** Default `causal`, aligned to the last key; `tree` reads the blob of a draft tree. */
  mask?: 'causal' | 'none' | 'tree';
  /** With `tree`: nodes that the blob has room for; default `maxQueries`. */
  maxNodes?: number;
  /** Keys that a query looks back. */
  window?: number;
  /** Default `1 / sqrt(headDim)`. */
  scale?: number;
  softcap?: number;
  /** One a query head. */
  alibiSlopes?: readonly number[];
  /** One a query head. */
  sinks?: readonly number[];
  /** Also give the log-sum-exp of each row. */
  lse?: boolean;
  /** The bits of a row depend on nothing but the row: for verification. */
  invariant?: boolean;
  /** An additive bias `[batch, query_head, query, key]` in f32. */
  bias?: boolean;
}

/** The buffers of a call. */
export interface AttentionIo {
  query: BufferArgument;
  key: BufferArgument;
  value: BufferArgument;
  output: BufferArgument;
  /** Four u32 a sequence; see {@link lengths}. */
  lengths: BufferArgument;
  lse?: BufferArgument;
  bias?: BufferArgument;
  tree?: BufferArgument;
}

/** The words of `lengths` for sequences of `[queries, keys]`, the queries at the end of the keys. */
export function lengths(sequences: readonly (readonly [queries: number, keys: number])[]): Uint32Array {
  return Uint32Array.from(
    sequences.flatMap(([queries, keys]) => {
      if (!Number.isInteger(queries) || !Number.isInteger(keys) || queries < 0 || keys < queries) {
        throw new ArgumentError(`a sequence needs at least as many keys as queries, given ${queries} queries and ${keys} keys`);
      }
      return [queries, keys - queries, 0, 0];
    }),
  );
}

/** A compiled plan with its workspace. */
export class Attention {
  readonly device: Device;
  readonly problem: Readonly<AttentionProblem>;
  private readonly inner: glue.Attention;

  private constructor(device: Device, problem: AttentionProblem, inner: glue.Attention) {
    this.device = device;
    this.problem = problem;
    this.inner = inner;
  }

  /** Plans and compiles. */
  static async prepare(device: Device, problem: AttentionProblem): Promise<Attention> {
    const text = json('the attention problem', problem);
    return new Attention(device, { ...problem }, await settle(() => glue.Attention.prepare(device.inner, text), device.failed));
  }

  /** Chosen kernels, refused ones and why, bytes of workspace. */
  explain(): string {
    return call(() => this.inner.explain());
  }

  /** Binds the page's own buffers, each with the usage `STORAGE`. */
  bind(io: AttentionIo): AttentionCall {
    checkBuffers(io, ['query', 'key', 'value', 'output', 'lengths']);
    return new AttentionCall(this.device, call(() => this.inner.bind(this.device.inner, io)));
  }

  /**
   * Computes one sequence of f32 arrays, `[token, head, dim]`, and waits for the result: uploads, submits, reads back.
   */
  async run(arrays: { query: Float32Array; key: Float32Array; value: Float32Array }): Promise<Float32Array> {
    const { queryHeads, kvHeads, headDim, valueDim = headDim, batch = 1, ...problem } = this.problem;
    const types = [problem.queryType, problem.kvType, problem.outputType];
    if (batch !== 1 || types.some((type) => (type ?? 'f32') !== 'f32') || problem.mask === 'tree' || problem.bias || problem.lse) {
      throw new ArgumentError('`run` takes problems of one f32 sequence without a tree, bias or LSE; use `bind` for others');
    }
    const { query, key, value } = arrays;
    const queries = query.length / (queryHeads * headDim);
    const keys = key.length / (kvHeads * headDim);
    if (!Number.isInteger(queries) || !Number.isInteger(keys) || value.length !== keys * kvHeads * valueDim) {
      throw new ArgumentError(`query, key and value have ${query.length}, ${key.length} and ${value.length} numbers, which is no whole number of tokens each, or not as many values as keys`);
    }
    if (queries > problem.maxQueries || keys > problem.maxKeys) {
      throw new ArgumentError(`${queries} queries and ${keys} keys are more than the ${problem.maxQueries} and ${problem.maxKeys} that were planned`);
    }
    const { device } = this;
    const padded = (data: Float32Array, size: number) => {
      const buffer = device.storage(size * 4);
      device.gpuDevice.queue.writeBuffer(buffer, 0, data as Float32Array<ArrayBuffer>);
      return buffer;
    };
    const { maxQueries, maxKeys } = problem;
    const io = {
      query: padded(query, maxQueries * queryHeads * headDim),
      key: padded(key, maxKeys * kvHeads * headDim),
      value: padded(value, maxKeys * kvHeads * valueDim),
      output: device.storage(maxQueries * queryHeads * valueDim * 4),
      lengths: device.buffer(lengths([[queries, keys]])),
    };
    const encoder = device.gpuDevice.createCommandEncoder();
    this.bind(io).encode(encoder, queries, keys);
    device.gpuDevice.queue.submit([encoder.finish()]);
    const output = new Float32Array(await device.read(io.output));
    for (const buffer of Object.values(io)) buffer.destroy();
    return output.slice(0, queries * queryHeads * valueDim);
  }
}

/** Attention bound to its buffers: records any number of calls. */
export class AttentionCall {
  private readonly device: Device;
  private readonly inner: glue.AttentionCall;

  /** @internal */
  constructor(device: Device, inner: glue.AttentionCall) {
    this.device = device;
    this.inner = inner;
  }

  /**
   * Records a compute pass into the page's encoder; the page submits it. `queries` and `keys` are at least the
   * longest in the buffer `lengths`.
   */
  encode(encoder: GPUCommandEncoder, queries: number, keys: number): void {
    call(() => this.inner.encode(this.device.inner, encoder, queries, keys));
  }
}
