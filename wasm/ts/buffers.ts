import { ArgumentError } from './errors.js';

/** A buffer of the page, or a range of one. */
export type BufferArgument = GPUBuffer | { buffer: GPUBuffer; offset?: number; size?: number };

/** Refuses fields of `io` that are neither a buffer nor missing. */
export function checkBuffers(io: object, needed: readonly string[]): void {
  if (typeof io !== 'object' || io === null) throw new ArgumentError('the buffers must be an object');
  const fields = io as Record<string, unknown>;
  for (const name of needed) {
    if (fields[name] === undefined || fields[name] === null) throw new ArgumentError(`the buffer \`${name}\` is missing`);
  }
}
