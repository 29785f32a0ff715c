// The page's side of the worker.
import type { Calls, Event, FromWorker, WireError } from './protocol.js';

export class EngineError extends Error {
  readonly code: string;

  constructor({ name, code, message }: WireError) {
    super(message);
    this.name = name;
    this.code = code;
  }
}

interface Pending {
  resolve(answer: unknown): void;
  reject(error: Error): void;
  hear: (event: Event) => void;
}

export class Engine {
  private readonly worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module', name: 'sunfleck' });
  private readonly pending = new Map<number, Pending>();
  private next = 1;

  /** `onLost` hears that the device is gone, and the model with it. */
  constructor(onLost: (error: EngineError) => void) {
    this.worker.addEventListener('message', ({ data }: MessageEvent<FromWorker>) => {
      if ('lost' in data) {
        onLost(new EngineError(data.lost));
        return;
      }
      const pending = this.pending.get(data.id);
      if (!pending) return;
      if ('event' in data) {
        pending.hear(data.event);
        return;
      }
      this.pending.delete(data.id);
      if ('error' in data) pending.reject(new EngineError(data.error));
      else pending.resolve(data.answer);
    });
    this.worker.addEventListener('error', (event) => {
      const error = new EngineError({ name: 'Error', code: 'worker', message: event.message || 'the worker could not be started' });
      for (const pending of this.pending.values()) pending.reject(error);
      this.pending.clear();
    });
  }

  call<K extends keyof Calls>(call: K, argument: Calls[K]['in'], options: { signal?: AbortSignal; hear?: (event: Event) => void } = {}): Promise<Calls[K]['out']> {
    const id = this.next++;
    const { signal, hear = () => {} } = options;
    return new Promise<Calls[K]['out']>((resolve, reject) => {
      this.pending.set(id, { resolve: resolve as (answer: unknown) => void, reject, hear });
      signal?.addEventListener('abort', () => this.worker.postMessage({ id, abort: true }), { once: true });
      this.worker.postMessage({ id, call, argument });
    });
  }
}
