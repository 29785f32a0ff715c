// The answer to a prompt, as it is generated.

import { ArgumentError } from './errors.js';
import type { AnswerResult, Piece } from './generator.js';
import { call, glue, release } from './module.js';

/** Pieces that may wait for their reader before the GPU does. */
const AHEAD = 64;

/** An answer as it is generated. Iterate over it once. */
export class Answer implements AsyncIterable<Piece> {
  /** Counts and times, once the answer has ended; rejects as the iteration does. */
  readonly result: Promise<AnswerResult>;
  private resolve!: (result: AnswerResult) => void;
  private reject!: (error: unknown) => void;
  private begun = false;

  /** @internal */
  constructor(
    private readonly run: (hear: (piece: Piece) => Promise<void> | undefined, cancel: glue.Cancel) => Promise<AnswerResult>,
    private readonly signal: AbortSignal | undefined,
  ) {
    this.result = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    this.result.catch(() => {});
  }

  /** The whole text. */
  async text(): Promise<string> {
    let text = '';
    for await (const piece of this) text += piece.text;
    return text;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Piece, void, undefined> {
    if (this.begun) throw new ArgumentError('an answer can be iterated over once; call `generate` again');
    this.begun = true;
    const { signal } = this;
    const pieces: Piece[] = [];
    let ended = false;
    let failure: { error: unknown } | undefined;
    let wakeReader = () => {};
    let wakeWriter = () => {};
    const cancel = call(() => new glue.Cancel());
    const stop = () => {
      cancel.cancel();
      wakeWriter();
    };
    signal?.addEventListener('abort', stop, { once: true });
    const hear = (piece: Piece): Promise<void> | undefined => {
      pieces.push(piece);
      wakeReader();
      if (pieces.length < AHEAD || signal?.aborted) return undefined;
      return new Promise((resolve) => (wakeWriter = resolve));
    };
    const running = (async () => {
      signal?.throwIfAborted();
      return this.run(hear, cancel);
    })().then(
      (result) => {
        if (signal?.aborted) failure = { error: signal.reason };
        else this.resolve(result);
      },
      (error: unknown) => {
        failure = { error: signal?.aborted ? signal.reason : error };
      },
    ).finally(() => {
      if (failure) this.reject(failure.error);
      ended = true;
      wakeReader();
    });
    try {
      for (;;) {
        const piece = pieces.shift();
        if (piece && !signal?.aborted) {
          if (pieces.length < AHEAD / 2) wakeWriter();
          yield piece;
        } else if (ended) {
          break;
        } else {
          pieces.length = 0;
          wakeWriter();
          await new Promise<void>((resolve) => {
            wakeReader = resolve;
            if (ended || pieces.length > 0) resolve();
          });
        }
      }
      const failed = failure as { error: unknown } | undefined;
      if (failed) throw failed.error;
    } finally {
      // Also where the reader left the loop.
      stop();
      await running;
      signal?.removeEventListener('abort', stop);
      release(cancel);
    }
  }
}
