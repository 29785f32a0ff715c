// What steps with drafts cost on an adapter: measured once for `tree: 'auto'`, and kept for the next visit.

import { FileCache } from './storage.js';

/** What costs hold for; of trained drafters, also which one it is. */
export interface CostsOf {
  adapter: Partial<GPUAdapterInfo>;
  /** How kernels are made there, as JSON. */
  capabilities: string;
  /** Of the model. */
  fingerprint: string;
  kv: string | undefined;
  maxDraft: number;
  trained: Readonly<Record<string, string>>;
}

/** Measured costs by drafter, in the module's own form. */
export type Costs = Record<string, string>;

interface Kept {
  version: number;
  /** What they hold for, and costs; the last ones come last. */
  entries: [string, string][];
}

const NAME = 'costs';
/** Of the file, and of the kernels that were measured. */
const VERSION = 1;
const MOST = 32;

/** One entry a drafter, so that a trained one that is loaded with other weights is another. */
function keyOf({ adapter, trained, ...rest }: CostsOf, drafter: string): string {
  const { vendor, architecture, device, description } = adapter;
  const weights = Object.entries(trained).find(([kind]) => drafter.endsWith(kind))?.[1];
  return JSON.stringify([vendor, architecture, device, description, rest.capabilities, rest.fingerprint, rest.kv, rest.maxDraft, drafter, weights]);
}

async function read(files: FileCache): Promise<Kept['entries']> {
  try {
    const kept = JSON.parse((await files.text(NAME)) ?? '') as Kept;
    return kept.version === VERSION && Array.isArray(kept.entries) ? kept.entries : [];
  } catch {
    return [];
  }
}

/** The costs kept for `drafter`. */
export async function recall(of: CostsOf, drafter: string): Promise<string | undefined> {
  const files = await FileCache.open();
  const key = keyOf(of, drafter);
  return files && (await read(files)).find(([known]) => known === key)?.[1];
}

/** Keeps `costs`. Where that can't be, they are measured again next time. */
export async function keep(of: CostsOf, costs: Costs): Promise<void> {
  try {
    const files = await FileCache.open();
    if (!files) return;
    const fresh = Object.entries(costs).map(([drafter, text]): [string, string] => [keyOf(of, drafter), text]);
    const others = (await read(files)).filter(([key]) => !fresh.some(([known]) => known === key));
    const kept: Kept = { version: VERSION, entries: [...others, ...fresh].slice(-MOST) };
    await files.keepText(NAME, JSON.stringify(kept));
  } catch {
    // A full disk, or another tab that writes.
  }
}
