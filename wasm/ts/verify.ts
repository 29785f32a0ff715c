import { checkBuffers, type BufferArgument } from './buffers.js';
import type { Device } from './device.js';
import { call, glue, json, settle } from './module.js';
import type { DrawKind } from './tree.js';

/** Which drafted tokens are kept. Those called lossy change the law of the text. */
export type Rule = 'greedy' | 'rejection' | 'chain-rejection' | 'block' | 'traversal' | 'lossy-typical' | 'lossy-threshold';

/** How logits become the distribution that is sampled from. */
export interface Sampling {
  /** 0 or missing: greedy, unless a rule is given. */
  temperature?: number;
  /** Keep this many of the likeliest tokens; 0 keeps all. */
  topK?: number;
  topP?: number;
  minP?: number;
  /** Default 1, none. */
  repetitionPenalty?: number;
  /** Default 0, none. */
  presencePenalty?: number;
}

/** A rule with its numbers. */
export interface RuleOptions {
  /** Default: `greedy` without a temperature, else `rejection`, which keeps the model's law for any tree. */
  rule?: Rule;
  /** Of `lossy-typical`. Default 0.3. */
  epsilon?: number;
  /** Of `lossy-typical`. Default 0.09. */
  delta?: number;
  /** Of `lossy-threshold`. Default 0.3. */
  threshold?: number;
}

/** Sizes and storage of a batch of verifications. */
export interface VerifyProblem {
  /** Most nodes of a tree, the root included. */
  maxNodes: number;
  vocabulary: number;
  batch?: number;
  /** Nodes that the tree blobs have room for; default `maxNodes`. */
  treeStride?: number;
  logitsType?: 'f32' | 'f16' | 'bf16';
  /** Elements from one row of logits to the next; default `vocabulary`. */
  rowStride?: number;
  /** Rows of draft logits a request; 0 where no tree is drawn by chance. */
  draftRows?: number;
  penalties?: boolean;
  grammar?: boolean;
}

/** The buffers of a verification. */
export interface VerifyIo {
  /** The target's logits, `[batch, maxNodes, rowStride]`. */
  logits: BufferArgument;
  /** The draft's logits, `[batch, draftRows, rowStride]`. */
  draft?: BufferArgument;
  /** Blobs of draft trees. */
  tree: BufferArgument;
  /** Four u32 a request; the second is the position of the root. */
  lengths: BufferArgument;
  /** Bits, `[batch, rows, words]`: tokens that penalties look at, then those that a grammar allows. */
  masks?: BufferArgument;
}

/** How one request of a batch is verified. */
export interface VerifyRequest extends Sampling, RuleOptions {
  /** How the children of the request's trees were drawn. Default `top-k`. */
  draw?: DrawKind;
  seed?: number | bigint;
  /** What the drafter did to its logits before it drew. */
  drafting?: Sampling;
  grammar?: boolean;
}

/** What was decided on one tree. */
export interface Verdict {
  /** Accepted nodes, the root first. */
  path: number[];
  /** Their tokens below the root, then the bonus token. */
  tokens: number[];
  /** Natural logarithms of the tokens' probabilities under the model. */
  rawLogProbabilities: number[];
  /** The same under the distribution that was sampled from. */
  logProbabilities: number[];
}

/** A compiled plan of verification. */
export class Verify {
  readonly device: Device;
  private readonly inner: glue.Verify;

  private constructor(device: Device, inner: glue.Verify) {
    this.device = device;
    this.inner = inner;
  }

  /** Checks sizes and limits, and compiles. */
  static async prepare(device: Device, problem: VerifyProblem): Promise<Verify> {
    const text = json('the verification problem', problem);
    return new Verify(device, await settle(() => glue.Verify.prepare(device.inner, text), device.failed));
  }

  /** Binds the page's own buffers, each with the usage `STORAGE`. */
  bind(io: VerifyIo): VerifyCall {
    checkBuffers(io, ['logits', 'tree', 'lengths']);
    return new VerifyCall(this.device, call(() => this.inner.bind(this.device.inner, io)));
  }
}

/** Verification bound to its buffers. Until {@link setRequest} says otherwise requests are verified greedily. */
export class VerifyCall {
  private readonly device: Device;
  private readonly inner: glue.VerifyCall;

  /** @internal */
  constructor(device: Device, inner: glue.VerifyCall) {
    this.device = device;
    this.inner = inner;
  }

  /** Says how a request of the batch is verified from the next submission on. */
  setRequest(index: number, request: VerifyRequest): void {
    call(() => this.inner.setRequest(index, json('the request', request)));
  }

  /**
   * Records a compute pass into the page's encoder; the page submits it. With `finalise` the lengths move on by what
   * was kept.
   */
  encode(encoder: GPUCommandEncoder, { finalise = false } = {}): void {
    call(() => this.inner.encode(this.device.inner, encoder, finalise));
  }

  /** Reads the verdicts of the last submission, one a request. */
  async read(): Promise<Verdict[]> {
    return JSON.parse(await settle(() => this.inner.read(this.device.inner), this.device.failed)) as Verdict[];
  }
}
