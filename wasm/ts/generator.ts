import { Answer } from './answer.js';
import { keep, recall, type Costs, type CostsOf } from './costs.js';
import { Device } from './device.js';
import { Download, Incoming, type ByteSource, type CacheState, type DownloadOptions } from './download.js';
import { ArgumentError, GenerateError } from './errors.js';
import { call, glue, json, release, settle } from './module.js';
import { attended } from './pulse.js';
import { readBlob } from './storage.js';
import type { RuleOptions, Sampling } from './verify.js';

/** Where a model file comes from: an address, a file, or its bytes. */
export type ModelSource = string | URL | Blob | ArrayBuffer | ArrayBufferView | ReadableStream<Uint8Array>;

/** How far a model is loaded. */
export interface LoadProgress {
  /** Bytes of the file that are here. */
  received: number;
  /** Bytes of the file, where that is known. */
  size: number | undefined;
  /** Bytes of weights on the GPU, and in all (0 until the file's header was read). */
  uploaded: number;
  weights: number;
  /** Since the call. */
  seconds: number;
  cache: CacheState['state'];
  /** Bytes that an earlier, broken download had left. */
  resumed: number;
}

/** A drafter with weights that were trained for the model. */
export type TrainedDrafter = 'mtp' | 'medusa' | 'exit';

/** The weights of a trained drafter, and how it drafts. */
export interface DrafterOptions {
  /** `mtp`: one more layer on the model's features; `medusa`: heads on its last feature; `exit`: its own first layers. */
  kind: TrainedDrafter;
  /** The safetensors file. */
  weights: Uint8Array | ArrayBuffer;
  /** Tokens that can be drafted; default all. The most frequent few thousand make drafting cheaper. */
  vocabulary?: readonly number[] | Uint32Array;
  /** Drafted tokens of a chain of `mtp` or `exit`, 1 to 64. Default 4. */
  tokens?: number;
  /** Nodes of a tree of `mtp` (default 1: chains only) or `medusa` (default as many as a step has room for). */
  nodes?: number;
  /** Layers that draft, of `exit`; the weights need an exit after as many. Default 6. */
  layers?: number;
}

export interface LoadOptions {
  /** Default: a device of its own, `Device.request()`. */
  device?: Device;
  signal?: AbortSignal;
  onProgress?: (progress: LoadProgress) => void;
  /**
   * Whether a file from an address is kept in the Origin Private File System, and what `tree: 'auto'` measures. Default
   * true.
   */
  cache?: boolean;
  /** `generator.costs` of an earlier time on this adapter with this model: `tree: 'auto'` need not measure again. */
  costs?: Costs;
  /** SHA-256 that the file must have, in hexadecimal. */
  sha256?: string;
  /** In place of the global one. */
  fetch?: typeof fetch;
  /** Tokens of prompt, answer and drafts together. Default 2,048, at most what the model was made for. */
  context?: number;
  /** Element type of the cache of keys and values. Default `f32`. */
  kv?: 'f32' | 'f16' | 'bf16' | 'q8' | 'q4';
  /** Tokens of a page of the cache, a power of 2 from 16 to 256. Default: no pages. */
  page?: number;
  /** Most drafted tokens in one step. Default 15. */
  maxDraft?: number;
  /** Loads these drafters too. */
  drafters?: readonly DrafterOptions[];
}

/** Shape and memory of a model. */
export interface ModelDescription {
  name: string | null;
  layers: number;
  width: number;
  vocabulary: number;
  queryHeads: number;
  kvHeads: number;
  headDim: number;
  trainedContext: number;
  context: number;
  maxDraft: number;
  gpuBytes: number;
  /** Whether it has a chat template. */
  chat: boolean;
  /** Trained drafters that are loaded. */
  drafters: TrainedDrafter[];
  /** Equal for equal weights; no protection against forgery. */
  fingerprint: string;
}

export interface GenerateOptions extends Sampling, RuleOptions {
  /** Most tokens of the answer. Default 256. */
  maxTokens?: number;
  signal?: AbortSignal;
  /**
   * Who proposes tokens. Default `ngram`: what followed the last tokens when they occurred before. After `ngram+` the
   * trained one drafts where that finds less than two tokens. No drafter changes the law of a sampled answer, and drafted
   * chains never change a greedy one.
   */
  drafter?: 'none' | 'ngram' | TrainedDrafter | `ngram+${TrainedDrafter}`;
  /**
   * How much is drafted. Default: as much as the drafter likes. `auto`: what pays, which may be nothing, by costs that
   * are measured once for each drafter (some seconds, more on a slow device; kept for the next visit), by what steps
   * turn out to take, and by how often drafts were kept.
   */
  tree?: 'auto' | { chain: number } | { nodes: number };
  /** What the whole answer may be: one that matches a regular expression, or JSON of a schema (as JSON or its text). */
  grammar?: { regex: string } | { jsonSchema: object | string };
  /** Most tokens of one continuation that `ngram` drafts. Default 8. */
  draftTokens?: number;
  /** Continuations that `ngram` follows: more than 1 drafts a tree. Default 1. */
  matches?: number;
  /** Draft always the full length instead of following recent success. */
  fixedDraft?: boolean;
  seed?: number | bigint;
  /** Texts that end the answer; they are not part of it. */
  stop?: readonly string[];
  /** Go on in a full context: keep this many tokens of its beginning, and the later half of the rest. */
  contextShift?: number;
  /** Go on past the tokens that end a text. */
  ignoreEnd?: boolean;
  /** Take a text as it is. Default: as a user's turn in the model's chat template, where it has one. */
  raw?: boolean;
  /** Go on after the last answer. */
  continue?: boolean;
  /**
   * Give `onStep` the log-probabilities of each token, and with a number also those of as many of the likeliest tokens in
   * its place, at most 32. Costs some time in greedy answers.
   */
  logProbabilities?: boolean | number;
  /**
   * How drafters that can draw by chance choose the tokens of a chain, where the rule is one of sampling: the likeliest
   * (default), or `drawn` at the temperature of the text.
   */
  drafts?: 'likeliest' | 'drawn';
  /** Hears of each step: its draft, and what was kept of it. */
  onStep?: (step: StepReport) => void;
}

/** How a token came about: drafted and kept, the model's own after a draft, or the model's own without one. */
export type Origin = 'drafted' | 'bonus' | 'plain';

/** A piece of an answer's text: whole characters. */
export interface Piece {
  text: string;
  origin: Origin;
}

/** Counts and times of an answer so far. */
export interface Counts {
  promptTokens: number;
  tokens: number;
  /** Verifications after the prompt. */
  steps: number;
  /** Tokens that the steps gave, also those past the answer's end. */
  steppedTokens: number;
  drafted: number;
  accepted: number;
  /** Times that the context was shifted. */
  shifts: number;
  tokensPerStep: number;
  /** After the prompt. */
  tokensPerSecond: number;
  promptTokensPerSecond: number;
  /** `draft` and `verify` are parts of `decode`; `compile` is the wait for kernels after the first token. */
  seconds: { prefill: number; decode: number; draft: number; verify: number; shift: number; compile: number };
}

/** The draft of a step; lists have an entry a node, node 0 being the token before. */
export interface StepDraft {
  /** Null for a token that was never read back from the GPU. */
  tokens: (number | null)[];
  texts: (string | null)[];
  parents: (number | null)[];
  /** Kept nodes, the root first. */
  path: number[];
  /** With `logProbabilities`: of the kept nodes below the root, then of the bonus token. */
  probabilities: number[];
  /** In the same places the likeliest tokens by the model's logits, where `logProbabilities` is their number. */
  likeliest: { id: number; probability: number }[][];
  bonus: { id: number; text: string | null } | null;
  seconds: { draft: number; verify: number };
}

/** A token of an answer; the numbers are there with `logProbabilities`. */
export interface NewToken {
  id: number;
  text: string | null;
  /** Under the softmax of the model's logits as they are; natural logarithm. */
  logProbability: number | null;
  /** Under the distribution that was sampled from: after penalties, grammar, temperature and cuts. */
  processedLogProbability: number | null;
  /** `exp(logProbability)`. */
  probability: number | null;
  /** The likeliest tokens in its place by the model's logits, where `logProbabilities` is their number. */
  likeliest: { id: number; text: string | null; logProbability: number; processedLogProbability: number }[] | null;
}

export interface StepReport extends Counts {
  /** Tokens since the last report. */
  new: NewToken[];
  /** Missing for the first token, which the prompt gave. */
  draft?: StepDraft;
}

export interface AnswerResult extends Counts {
  /** `end`: the model ended it; `stop`: a stop text; `length`: `maxTokens`; `context`: the context is full. */
  finish: 'end' | 'stop' | 'length' | 'context' | 'cancelled';
  tokenIds: number[];
  /** With `tree: 'auto'`: what was measured, counted and chosen, and why. */
  explained: string | null;
}

/** A model on the GPU with its tokenizer and one sequence. */
export class Generator {
  readonly device: Device;
  /** What the cache did for the model's file. */
  readonly cache: Readonly<CacheState>;
  /** SHA-256 of the file, where it came from an address. */
  readonly sha256: string | undefined;
  private readonly inner: glue.Generator;
  private source: ByteSource | undefined;
  private busy: Promise<unknown> | undefined;
  private disposed = false;
  /** Which trained drafters are loaded. */
  private readonly trained: Record<string, string> = {};

  private constructor(
    device: Device,
    inner: glue.Generator,
    source: ByteSource,
    cache: CacheState,
    sha256: string | undefined,
    private readonly kv: LoadOptions['kv'],
    private readonly keepsCosts: boolean,
  ) {
    this.device = device;
    this.inner = inner;
    this.source = source;
    this.cache = cache;
    this.sha256 = sha256;
  }

  /**
   * Loads a GGUF model. Its weights go to the GPU as they arrive; a file from an address is kept, and a broken
   * download goes on where it ended (in a worker; a page keeps complete files only).
   */
  static async load(model: ModelSource, options: LoadOptions = {}): Promise<Generator> {
    const { signal, onProgress, cache = true, sha256, fetch, drafters = [], costs, context, kv, page, maxDraft } = options;
    signal?.throwIfAborted();
    const device = options.device ?? (await Device.request());
    const begun = performance.now();
    const progress: LoadProgress = { received: 0, size: undefined, uploaded: 0, weights: 0, seconds: 0, cache: 'off', resumed: 0 };
    const opened: { source?: ByteSource } = {};
    const report = () => {
      progress.seconds = (performance.now() - begun) / 1000;
      if (opened.source instanceof Download) {
        progress.cache = opened.source.cache.state;
        progress.resumed = opened.source.cache.resumed;
      }
      onProgress?.({ ...progress });
    };
    const onBytes = (received: number, size: number | undefined) => {
      progress.received = received;
      progress.size = size;
      report();
    };
    // Whatever fails first ends the other side: a broken file must not go on downloading.
    const stop = new AbortController();
    const passOn = () => stop.abort(signal?.reason);
    signal?.addEventListener('abort', passOn, { once: true });
    let inner: glue.Generator | undefined;
    try {
      const source = await open(model, { cache, sha256: sha256?.toLowerCase(), signal: stop.signal, fetch, onBytes });
      opened.source = source;
      const text = json('the options', { context, kv, page, maxDraft });
      const guarded: ByteSource = {
        get size() {
          return source.size;
        },
        async read(offset, length) {
          signal?.throwIfAborted();
          return source.read(offset, length);
        },
      };
      const onUpload = (uploaded: number, weights: number) => {
        progress.uploaded = uploaded;
        progress.weights = weights;
        report();
      };
      inner = await settle(() => glue.Generator.load(device.inner, guarded, text, onUpload), device.failed);
      if (source instanceof Download || source instanceof Incoming) await settle(() => source.done, device.failed);
      const [state, hash]: [CacheState, string | undefined] =
        source instanceof Download ? [source.cache, source.sha256] : [{ state: 'off', resumed: 0 }, undefined];
      const generator = new Generator(device, inner, source, state, hash, kv, cache);
      for (const [drafter, text] of Object.entries(costs ?? {})) inner.knowCosts(drafter, text);
      for (const drafter of drafters) await generator.loadDrafter(drafter);
      if (source instanceof Download && (await source.release())) generator.source = undefined;
      report();
      return generator;
    } catch (error) {
      stop.abort(error);
      if (inner) release(inner);
      if (opened.source instanceof Download) void opened.source.release();
      throw signal?.aborted ? signal.reason : error;
    } finally {
      signal?.removeEventListener('abort', passOn);
    }
  }

  /** Loads a drafter that was trained for this model. The rows of its vocabulary are read from the model's file again. */
  async loadDrafter({ kind, weights, vocabulary = [], ...options }: DrafterOptions): Promise<void> {
    const source = this.source;
    if (!source) throw new GenerateError('the model file is no longer at hand; give `drafters` to `Generator.load`');
    const bytes = new Uint8Array(weights);
    await this.alone(() =>
      settle(
        () => this.inner.loadDrafter(this.device.inner, source, kind, bytes, Uint32Array.from(vocabulary), json('the options of the drafter', options)),
        this.device.failed,
      ),
    );
    this.trained[kind] = JSON.stringify([options, bytes.length, vocabulary.length]);
  }

  /**
   * Waits until all kernels are compiled. `load` does not, and an answer waits for those that it needs; times are
   * best compared after this.
   */
  async compiled(): Promise<void> {
    await this.alone(() => settle(() => this.inner.compiled(), this.device.failed));
  }

  /** What `tree: 'auto'` measured, by drafter; for `costs` of another load. */
  get costs(): Costs {
    return JSON.parse(this.whileIdle(() => this.inner.costs())) as Costs;
  }

  /** Shape and memory of the model. */
  describe(): ModelDescription {
    return JSON.parse(this.whileIdle(() => this.inner.describe())) as ModelDescription;
  }

  /** Token ids of `text`: as a user's turn in the model's chat template where it has one, or with `raw` as it is. */
  encode(text: string, { raw = false } = {}): Uint32Array {
    const asIs = raw || !this.describe().chat;
    return this.whileIdle(() => this.inner.encode(text, asIs));
  }

  /** Text of token ids; control tokens have none. */
  decode(tokens: readonly number[] | Uint32Array): string {
    return this.whileIdle(() => this.inner.decode(Uint32Array.from(tokens)));
  }

  /** Prompt and answer that the generator holds. */
  get tokens(): Uint32Array {
    return this.whileIdle(() => this.inner.tokens);
  }

  /**
   * Answers a prompt, a text or token ids: `for await (const piece of generator.generate(prompt)) …`. Nothing is
   * computed before the first piece is asked for; leaving the loop ends the answer.
   */
  generate(prompt: string | readonly number[] | Uint32Array, options: GenerateOptions = {}): Answer {
    return new Answer((hear, cancel) => this.answer(prompt, options, hear, cancel), options.signal);
  }

  /** Frees the model. */
  dispose(): void {
    if (this.disposed) return;
    this.disposed = true;
    this.source = undefined;
    const free = () => release(this.inner);
    if (this.busy) void this.busy.then(free, free);
    else free();
  }

  private async answer(
    prompt: string | readonly number[] | Uint32Array,
    options: GenerateOptions,
    hear: (piece: Piece) => Promise<void> | undefined,
    cancel: glue.Cancel,
  ): Promise<AnswerResult> {
    const { signal: _, onStep, raw = false, ...rest } = options;
    const goesOn = rest.continue === true;
    let tokens: Uint32Array;
    if (typeof prompt !== 'string') tokens = Uint32Array.from(prompt);
    else if (goesOn && !raw && this.describe().chat) tokens = this.whileIdle(() => this.inner.encodeNext(prompt));
    else tokens = this.encode(prompt, { raw });
    const text = json('the options', { ...rest, steps: onStep !== undefined });
    const onEvent = (event: string): Promise<void> | undefined => {
      const heard = JSON.parse(event) as Piece & { step?: StepReport };
      if (heard.step) {
        onStep?.(heard.step);
        return undefined;
      }
      return hear(heard);
    };
    const measured = rest.tree === 'auto' && this.keepsCosts ? await this.recallCosts(rest.drafter) : undefined;
    const result = await this.alone(() =>
      settle(() => this.inner.generate(tokens, text, cancel, onEvent), this.device.failed),
    );
    await measured?.();
    return JSON.parse(result) as AnswerResult;
  }

  /** Looks for costs that were kept; what it gives keeps new ones. */
  private async recallCosts(drafter = 'ngram'): Promise<() => Promise<void>> {
    const { maxDraft, fingerprint } = this.describe();
    const { adapterInfo: adapter, capabilities } = this.device;
    const of: CostsOf = { adapter, capabilities: JSON.stringify(capabilities), fingerprint, kv: this.kv, maxDraft, trained: this.trained };
    if (!(drafter in this.costs)) {
      const kept = await recall(of, drafter);
      if (kept !== undefined) this.whileIdle(() => this.inner.knowCosts(drafter, kept));
    }
    const known = drafter in this.costs;
    return async () => {
      if (!known && !this.disposed && drafter in this.costs) await keep(of, { [drafter]: this.costs[drafter] ?? '' });
    };
  }

  /** Runs `run` while nothing else uses the sequence. */
  private async alone<T>(run: () => Promise<T>): Promise<T> {
    this.whileIdle(() => {});
    const running = attended(this.device.gpuDevice, run);
    this.busy = running;
    try {
      return await running;
    } finally {
      this.busy = undefined;
    }
  }

  private whileIdle<T>(run: () => T): T {
    if (this.disposed) throw new GenerateError('this generator was disposed of; load the model again');
    if (this.busy) throw new GenerateError('this generator is at work; wait for its answer to end, or end it');
    return call(run);
  }
}

async function open(model: ModelSource, options: DownloadOptions): Promise<ByteSource> {
  if (typeof model === 'string' || model instanceof URL) {
    return Download.start(new URL(model, globalThis.location?.href).href, options);
  }
  if (options.sha256) throw new ArgumentError('`sha256` is checked for models from an address; check the checksum of other sources yourself');
  if (typeof ReadableStream !== 'undefined' && model instanceof ReadableStream) {
    return new Incoming(model, undefined, options.signal, (received) => options.onBytes(received, undefined));
  }
  const blob = model instanceof Blob ? model : bytesOf(model);
  options.onBytes(blob.size, blob.size);
  return { size: blob.size, read: (offset, length) => readBlob(blob, offset, length) };
}

function bytesOf(model: unknown): Blob {
  if (model instanceof ArrayBuffer || ArrayBuffer.isView(model)) return new Blob([model as BufferSource]);
  throw new ArgumentError('the model must be an address, a File or Blob, an ArrayBuffer, a typed array or a ReadableStream');
}
