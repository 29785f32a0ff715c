// A file from an address: bytes can be read as soon as they have arrived, and what arrived is kept.

import { ChecksumError, DownloadError } from './errors.js';
import { glue, init } from './module.js';
import { BlobStore, FileCache, FileStore, readBlob, type Kept, type Store } from './storage.js';

/** What the cache did for a file. */
export interface CacheState {
  /**
   * `hit`: read from the cache. `stored`: kept for the next time. `off`: not asked for. `unavailable`: this context
   * has no storage. `busy`: another page is downloading the same file. `full`: it does not fit the disk, or the site's
   * share of it.
   */
  state: 'hit' | 'stored' | 'off' | 'unavailable' | 'busy' | 'full';
  /** Bytes that an earlier, broken download had left, and that were not downloaded again. */
  resumed: number;
  message?: string;
}

export interface DownloadOptions {
  cache: boolean;
  /** SHA-256 that the file must have, in hexadecimal. */
  sha256?: string | undefined;
  signal?: AbortSignal | undefined;
  fetch?: typeof fetch | undefined;
  /** Hears of bytes that arrived, of the size once it is known. */
  onBytes(received: number, size: number | undefined): void;
}

/** Bytes by position: what the module reads a model from. */
export interface ByteSource {
  readonly size: number | undefined;
  read(offset: number, length: number): Promise<Uint8Array>;
}

const RETRIES = 4;
const HASH_PIECE = 2 << 20;

/** The name of a file in the cache. */
export async function keyOf(url: string): Promise<string> {
  await init();
  const hash = new glue.Sha256();
  hash.update(new TextEncoder().encode(url));
  const key = hash.digest();
  hash.free();
  return key;
}

/** A file from an address, from the cache where it is there. */
export class Download implements ByteSource {
  readonly cache: CacheState;
  /** Settles when the whole file has arrived and has its checksum. */
  readonly done: Promise<void>;
  size: number | undefined;
  sha256: string | undefined;
  private store: Store;
  private ended = false;
  private failure: unknown;
  private waiting: (() => void)[] = [];

  private constructor(
    private readonly url: string,
    private readonly options: DownloadOptions,
    private readonly files: FileCache | undefined,
    private readonly key: string,
    private kept: Kept | undefined,
    store: Store,
    cache: CacheState,
    whole: File | undefined,
  ) {
    this.store = store;
    this.cache = cache;
    this.done = (whole ? this.check(whole) : this.run()).then(
      () => this.end(),
      (error: unknown) => {
        this.failure = error;
        this.end();
        throw error;
      },
    );
    // Whoever reads hears of a failure; `done` may be waited for later.
    this.done.catch(() => {});
  }

  static async start(url: string, options: DownloadOptions): Promise<Download> {
    const key = await keyOf(url);
    options.signal?.throwIfAborted();
    const files = options.cache ? await FileCache.open() : undefined;
    const cache: CacheState = { state: options.cache ? 'unavailable' : 'off', resumed: 0 };
    let kept = await files?.describe(key);
    if (files && kept?.sha256) {
      const file = await files.file(key);
      const fits = file && file.size === kept.size && (!options.sha256 || options.sha256 === kept.sha256);
      if (file && fits) {
        cache.state = 'hit';
        const store = { length: file.size, append: () => {}, read: (o: number, n: number) => readBlob(file, o, n) };
        return new Download(url, options, files, key, kept, store, cache, file);
      }
      await files.remove(key).catch(() => {});
      kept = undefined;
    }
    let store: Store | undefined;
    if (files) {
      try {
        store = await files.appendable(key);
        cache.state = 'stored';
      } catch (error) {
        cache.state = 'busy';
        cache.message = `the cached file is in use elsewhere (${text(error)}); this download is not kept`;
      }
    }
    if (store instanceof FileStore && store.length > 0 && !kept) store.reset();
    return new Download(url, options, files, key, kept, store ?? new BlobStore(), cache, undefined);
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    while (!this.ended && this.store.length < offset + length) {
      await new Promise<void>((resolve) => this.waiting.push(resolve));
    }
    if (this.failure !== undefined) throw this.failure;
    return this.store.read(offset, Math.max(0, Math.min(length, this.store.length - offset)));
  }

  /** Hashes a file of the cache while it is read by others. */
  private async check(file: File): Promise<void> {
    this.size = file.size;
    const hash = new glue.Sha256();
    for (let at = 0; at < file.size; at += HASH_PIECE) {
      this.options.signal?.throwIfAborted();
      hash.update(await readBlob(file, at, HASH_PIECE));
      this.options.onBytes(Math.min(file.size, at + HASH_PIECE), file.size);
    }
    this.sha256 = hash.digest();
    hash.free();
    const expected = this.options.sha256 ?? this.kept?.sha256 ?? '';
    if (this.sha256 !== expected) {
      await this.files?.remove(this.key).catch(() => {});
      throw new ChecksumError(`the cached copy of ${this.url}, which was removed,`, expected, this.sha256);
    }
  }

  private async run(): Promise<void> {
    try {
      await this.transfer();
    } catch (error) {
      // The bytes so far stay, for the next attempt.
      if (this.store instanceof FileStore) this.store.close(undefined);
      throw this.options.signal?.aborted ? this.options.signal.reason : error;
    }
    await this.keep();
  }

  private async transfer(): Promise<void> {
    let hash = new glue.Sha256();
    // What an earlier download left.
    for (let at = 0; at < this.store.length; at += HASH_PIECE) {
      hash.update(await this.store.read(at, Math.min(HASH_PIECE, this.store.length - at)));
    }
    this.cache.resumed = this.store.length;
    let failures = 0;
    let consumed = false; // whether anybody may have read bytes
    for (;;) {
      this.options.signal?.throwIfAborted();
      const before = this.store.length;
      try {
        const response = await this.request(before);
        if (response.status === 416 && this.kept?.size === before && before > 0) break;
        let skip = 0;
        if (response.status !== 206 && before > 0) {
          // The whole file comes again: from the start where nothing was read, else past what is here.
          if (!consumed && this.store instanceof FileStore) {
            this.store.reset();
            this.cache.resumed = 0;
            hash.free();
            hash = new glue.Sha256();
          } else if (!this.isSame(response)) {
            throw new DownloadError(`${this.url} changed on its server while it was downloaded; load it again`, response.status);
          } else {
            skip = before;
          }
        }
        await this.describe(response, skip > 0 ? 0 : this.store.length);
        consumed = true;
        await this.pour(response, skip, hash);
        if (this.size === undefined || this.store.length === this.size) break;
        throw new DownloadError(`the connection ended after ${this.store.length} of ${this.size} bytes`);
      } catch (error) {
        if (this.options.signal?.aborted || (error instanceof DownloadError && error.status !== undefined)) throw error;
        failures = this.store.length > before ? 1 : failures + 1;
        if (failures > RETRIES) {
          const kept = this.store instanceof FileStore ? '; what arrived is kept, and the next attempt goes on there' : '';
          throw new DownloadError(`${this.url} could not be downloaded: ${text(error)}${kept}`, undefined, { cause: error });
        }
        await pause(250 * 2 ** failures, this.options.signal);
      }
    }
    this.sha256 = hash.digest();
    hash.free();
    this.size = this.store.length;
    const expected = this.options.sha256;
    if (expected && expected !== this.sha256) {
      if (this.store instanceof FileStore) this.store.reset();
      await this.files?.remove(this.key).catch(() => {});
      throw new ChecksumError(this.url, expected, this.sha256);
    }
  }

  private request(from: number): Promise<Response> {
    const headers = new Headers();
    if (from > 0) {
      headers.set('Range', `bytes=${from}-`);
      const validator = this.kept?.etag?.startsWith('W/') === false ? this.kept.etag : this.kept?.lastModified;
      if (validator) headers.set('If-Range', validator);
    }
    const get = this.options.fetch ?? fetch;
    // The browser's own cache need not hold what is kept here.
    const cache = this.files ? 'no-store' : 'default';
    return get(this.url, { headers, signal: this.options.signal ?? null, cache });
  }

  private isSame(response: Response): boolean {
    const etag = response.headers.get('etag');
    if (etag && this.kept?.etag) return etag === this.kept.etag;
    return length(response) === this.size;
  }

  /** Takes size and validators from an answer whose body starts at `start`. */
  private async describe(response: Response, start: number): Promise<void> {
    if (!response.ok) {
      const hint = response.status === 404 ? '; check the address' : '';
      throw new DownloadError(`${this.url} answered ${response.status} ${response.statusText}${hint}`, response.status);
    }
    const body = length(response);
    if (body !== undefined) this.size = start + body;
    const kept: Kept = { url: this.url };
    if (this.size !== undefined) kept.size = this.size;
    const [etag, lastModified] = [response.headers.get('etag'), response.headers.get('last-modified')];
    if (etag) kept.etag = etag;
    if (lastModified) kept.lastModified = lastModified;
    this.kept = kept;
    if (this.files && this.store instanceof FileStore) {
      await this.files.note(this.key, kept).catch((error: unknown) => this.couldNotKeep(error));
    }
  }

  private async pour(response: Response, skip: number, hash: glue.Sha256): Promise<void> {
    if (!response.body) throw new DownloadError(`${this.url} answered without a body`, response.status);
    const reader = response.body.getReader();
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        const bytes = skip > 0 ? value.subarray(Math.min(skip, value.length)) : value;
        skip -= value.length - bytes.length;
        if (bytes.length === 0) continue;
        hash.update(bytes);
        this.store.append(bytes);
        if (this.store instanceof FileStore && this.store.full !== undefined && this.cache.state === 'stored') {
          this.couldNotKeep(this.store.full);
        }
        this.options.onBytes(this.store.length, this.size);
        this.wake();
      }
    } finally {
      reader.releaseLock();
    }
  }

  private couldNotKeep(error: unknown): void {
    this.cache.state = 'full';
    this.cache.message = `the model is used, but could not be kept for the next time: ${text(error)}`;
  }

  /** Notes that the file is complete. */
  private async keep(): Promise<void> {
    const { files, store } = this;
    if (!files) return;
    const kept: Kept = { ...this.kept, url: this.url, size: this.store.length };
    if (this.sha256) kept.sha256 = this.sha256;
    try {
      if (store instanceof FileStore) {
        if (this.cache.state === 'full') {
          // Reads go on through the open file until `release`.
          return;
        }
        store.flush();
        await files.note(this.key, kept);
        store.close(await files.file(this.key));
      } else if (this.cache.state !== 'busy') {
        await files.write(this.key, store);
        await files.note(this.key, kept);
      }
      if (this.cache.state === 'unavailable') this.cache.state = 'stored';
    } catch (error) {
      this.couldNotKeep(error);
    }
  }

  /** Frees what is not kept for the next time, and says whether the bytes can no longer be read. */
  async release(): Promise<boolean> {
    if (this.cache.state === 'hit' || this.cache.state === 'stored') return false;
    if (this.store instanceof FileStore) {
      // A part that can't be completed is of no use.
      this.store.close(undefined);
      await this.files?.remove(this.key).catch(() => {});
    }
    this.store = new BlobStore();
    this.failure = new DownloadError(`the bytes of ${this.url} were not kept`);
    return true;
  }

  private end(): void {
    this.ended = true;
    this.wake();
  }

  private wake(): void {
    const waiting = this.waiting;
    this.waiting = [];
    for (const resolve of waiting) resolve();
  }
}

/** Bytes of a stream: can be read as soon as they have arrived. */
export class Incoming implements ByteSource {
  readonly done: Promise<void>;
  size: number | undefined;
  private readonly store = new BlobStore();
  private ended = false;
  private failure: unknown;
  private waiting: (() => void)[] = [];

  constructor(stream: ReadableStream<Uint8Array>, size: number | undefined, signal: AbortSignal | undefined, onBytes: (received: number) => void) {
    this.size = size;
    this.done = this.run(stream, signal, onBytes).catch((error: unknown) => {
      this.failure = signal?.aborted ? signal.reason : error;
      throw this.failure;
    }).finally(() => {
      this.ended = true;
      this.wake();
    });
    this.done.catch(() => {});
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    while (!this.ended && this.store.length < offset + length) {
      await new Promise<void>((resolve) => this.waiting.push(resolve));
    }
    if (this.failure !== undefined) throw this.failure;
    return this.store.read(offset, Math.max(0, Math.min(length, this.store.length - offset)));
  }

  private async run(stream: ReadableStream<Uint8Array>, signal: AbortSignal | undefined, onBytes: (received: number) => void): Promise<void> {
    const reader = stream.getReader();
    const stop = () => void reader.cancel(signal?.reason).catch(() => {});
    signal?.addEventListener('abort', stop, { once: true });
    try {
      for (;;) {
        signal?.throwIfAborted();
        const { done, value } = await reader.read();
        if (done) break;
        this.store.append(value);
        onBytes(this.store.length);
        this.wake();
      }
      signal?.throwIfAborted();
      this.size = this.store.length;
    } finally {
      signal?.removeEventListener('abort', stop);
      reader.releaseLock();
    }
  }

  private wake(): void {
    const waiting = this.waiting;
    this.waiting = [];
    for (const resolve of waiting) resolve();
  }
}

/** Models that are kept, complete or not. */
export async function cachedModels(): Promise<{ url: string; bytes: number; size: number | undefined; complete: boolean }[]> {
  const files = await FileCache.open();
  if (!files) return [];
  const models = [];
  for (const key of await files.keys()) {
    const [kept, file] = [await files.describe(key), await files.file(key)];
    if (kept) models.push({ url: kept.url, bytes: file?.size ?? 0, size: kept.size, complete: kept.sha256 !== undefined });
  }
  return models;
}

/** Removes the kept copy of the file from `url`; does nothing where there is none. */
export async function removeCachedModel(url: string | URL): Promise<void> {
  const files = await FileCache.open();
  await files?.remove(await keyOf(new URL(url, globalThis.location?.href).href));
}

/** Bytes of an answer's body, where they are what arrives. */
function length(response: Response): number | undefined {
  if (response.headers.get('content-encoding')) return undefined;
  const given = Number(response.headers.get('content-length') ?? NaN);
  return Number.isSafeInteger(given) && given >= 0 ? given : undefined;
}

function text(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function pause(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', stop);
      resolve();
    }, milliseconds);
    signal?.addEventListener('abort', stop, { once: true });
  });
}
