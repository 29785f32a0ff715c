// Where a model file's bytes are while and after they arrive: a file of the Origin Private File System, or Blobs,
// which browsers move to disk when they grow.

import { DownloadError } from './errors.js';

/** Bytes that grow at the end and are read anywhere. */
export interface Store {
  readonly length: number;
  append(bytes: Uint8Array): void;
  read(offset: number, length: number): Promise<Uint8Array>;
}

/** Bytes of a Blob or File. */
export async function readBlob(blob: Blob, offset: number, length: number): Promise<Uint8Array> {
  return new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer());
}

/** Keeps bytes as Blobs. */
export class BlobStore implements Store {
  length = 0;
  private readonly parts: { offset: number; blob: Blob }[] = [];
  private waiting: Uint8Array[] = [];
  private waitingBytes = 0;

  append(bytes: Uint8Array): void {
    // A copy: the stream may use its buffer again.
    this.waiting.push(bytes.slice());
    this.waitingBytes += bytes.length;
    this.length += bytes.length;
    if (this.waitingBytes >= 4 << 20) this.flush();
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    this.flush();
    const pieces: Blob[] = [];
    for (const part of this.parts) {
      const from = Math.max(0, offset - part.offset);
      const to = Math.min(part.blob.size, offset + length - part.offset);
      if (from < to) pieces.push(part.blob.slice(from, to));
    }
    return new Uint8Array(await new Blob(pieces).arrayBuffer());
  }

  private flush(): void {
    if (this.waitingBytes === 0) return;
    const blob = new Blob(this.waiting as BlobPart[]);
    this.parts.push({ offset: this.length - this.waitingBytes, blob });
    this.waiting = [];
    this.waitingBytes = 0;
  }
}

/** `FileSystemSyncAccessHandle`, which the types of pages do not have. */
interface SyncHandle {
  read(buffer: Uint8Array, options?: { at?: number }): number;
  write(buffer: Uint8Array, options?: { at?: number }): number;
  truncate(size: number): void;
  getSize(): number;
  flush(): void;
  close(): void;
}

interface SyncFile extends FileSystemFileHandle {
  createSyncAccessHandle?: () => Promise<SyncHandle>;
}

/** What is known of a kept file. */
export interface Kept {
  url: string;
  /** Bytes of the whole file, where the server said it. */
  size?: number;
  /** Validators of the server's file. */
  etag?: string;
  lastModified?: string;
  /** SHA-256 of the whole file; missing until it is complete. */
  sha256?: string;
}

const FOLDER = 'sunfleck';

/** Tries, a tenth of a second apart, after which a file is taken to be in use. */
const LETTING_GO = 20;

/** The files of this package in the Origin Private File System. */
export class FileCache {
  private constructor(private readonly folder: FileSystemDirectoryHandle) {}

  /** Undefined where there is no such file system, as in Node and in some private windows. */
  static async open(): Promise<FileCache | undefined> {
    try {
      const root = await globalThis.navigator?.storage?.getDirectory?.();
      return root && new FileCache(await root.getDirectoryHandle(FOLDER, { create: true }));
    } catch {
      return undefined;
    }
  }

  /** The text called `name`; undefined where there is none, or it can't be read. */
  async text(name: string): Promise<string | undefined> {
    try {
      return await (await (await this.folder.getFileHandle(name)).getFile()).text();
    } catch {
      return undefined;
    }
  }

  async keepText(name: string, text: string): Promise<void> {
    const handle = await this.folder.getFileHandle(name, { create: true });
    const bytes = new TextEncoder().encode(text);
    const sync = await (handle as SyncFile).createSyncAccessHandle?.();
    if (sync) {
      try {
        sync.truncate(0);
        sync.write(bytes, { at: 0 });
        sync.flush();
      } finally {
        sync.close();
      }
      return;
    }
    const stream = await handle.createWritable();
    await stream.write(bytes as BufferSource);
    await stream.close();
  }

  /** What is known of the file called `key`; undefined where that is nothing, or unreadable. */
  async describe(key: string): Promise<Kept | undefined> {
    try {
      return JSON.parse((await this.text(`${key}.json`)) ?? '') as Kept;
    } catch {
      return undefined;
    }
  }

  async note(key: string, kept: Kept): Promise<void> {
    await this.keepText(`${key}.json`, JSON.stringify(kept));
  }

  /** The kept bytes; undefined where there are none. */
  async file(key: string): Promise<File | undefined> {
    try {
      return await (await this.folder.getFileHandle(`${key}.bin`)).getFile();
    } catch {
      return undefined;
    }
  }

  /**
   * The file to append to; undefined outside workers, where it can't be written piece by piece. Rejects with
   * `NoModificationAllowedError` while another page has it open.
   */
  async appendable(key: string): Promise<FileStore | undefined> {
    const handle: SyncFile = await this.folder.getFileHandle(`${key}.bin`, { create: true });
    for (let tries = 0; ; tries++) {
      try {
        const sync = await handle.createSyncAccessHandle?.();
        return sync && new FileStore(sync);
      } catch (error) {
        // A tab that was just closed or loaded anew lets go of its files a moment later.
        if (tries >= LETTING_GO || !(error instanceof DOMException && error.name === 'NoModificationAllowedError')) throw error;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
  }

  /** Writes a whole file, where it can't be appended to. */
  async write(key: string, store: Store): Promise<void> {
    const handle = await this.folder.getFileHandle(`${key}.bin`, { create: true });
    const stream = await handle.createWritable();
    const piece = 4 << 20;
    for (let at = 0; at < store.length; at += piece) {
      await stream.write((await store.read(at, Math.min(piece, store.length - at))) as BufferSource);
    }
    await stream.close();
  }

  async remove(key: string): Promise<void> {
    for (const name of [`${key}.json`, `${key}.bin`]) {
      await this.folder.removeEntry(name).catch((error: unknown) => {
        if (!(error instanceof DOMException && error.name === 'NotFoundError')) throw error;
      });
    }
  }

  async keys(): Promise<string[]> {
    const keys: string[] = [];
    // Not in the types of every version.
    const names = (this.folder as unknown as { keys(): AsyncIterable<string> }).keys();
    for await (const name of names) {
      if (name.endsWith('.json')) keys.push(name.slice(0, -5));
    }
    return keys;
  }
}

/** An open file; what no longer fits the disk goes to Blobs. */
export class FileStore implements Store {
  /** Why bytes were kept elsewhere: the disk, or the site's share of it, is full. */
  full: unknown;
  private fileBytes: number;
  private readonly rest = new BlobStore();
  private sinceFlush = 0;
  private closed: File | undefined;

  constructor(private readonly handle: SyncHandle) {
    this.fileBytes = handle.getSize();
  }

  get length(): number {
    return this.fileBytes + this.rest.length;
  }

  append(bytes: Uint8Array): void {
    if (this.full === undefined) {
      try {
        const written = this.handle.write(bytes, { at: this.fileBytes });
        if (written !== bytes.length) throw new DOMException(`${written} of ${bytes.length} bytes were written`, 'QuotaExceededError');
        this.fileBytes += written;
        this.sinceFlush += written;
        // What was flushed outlives the tab.
        if (this.sinceFlush >= 8 << 20) this.flush();
        return;
      } catch (error) {
        this.full = error;
      }
    }
    this.rest.append(bytes);
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    if (offset >= this.fileBytes) return this.rest.read(offset - this.fileBytes, length);
    const here = Math.min(length, this.fileBytes - offset);
    let bytes: Uint8Array;
    if (this.closed) {
      bytes = await readBlob(this.closed, offset, here);
    } else {
      bytes = new Uint8Array(here);
      const count = this.handle.read(bytes, { at: offset });
      if (count !== here) throw new DownloadError(`the cached file gave ${count} bytes for ${here}; remove it and load again`);
    }
    if (here === length) return bytes;
    const after = await this.rest.read(0, length - here);
    const whole = new Uint8Array(here + after.length);
    whole.set(bytes);
    whole.set(after, here);
    return whole;
  }

  reset(): void {
    this.handle.truncate(0);
    this.fileBytes = 0;
  }

  flush(): void {
    this.handle.flush();
    this.sinceFlush = 0;
  }

  /** Lets others open the file; reads go on from `file`. */
  close(file: File | undefined): void {
    this.closed = file;
    this.handle.flush();
    this.handle.close();
  }
}
