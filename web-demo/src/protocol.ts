// What page and worker say to each other.
import type { AnswerResult, CacheState, Capabilities, GenerateOptions, LoadProgress, ModelDescription, Origin, StepReport, TrainedDrafter } from 'sunfleck/grammar';

export interface DeviceReport {
  adapter: Record<string, string>;
  features: string[];
  limits: Record<string, number>;
  capabilities: Capabilities;
  subgroupsNote?: string;
  floor: boolean;
}

export interface LoadRequest {
  source: string | File;
  kv: 'f32' | 'f16' | 'q8' | 'q4';
  context: number;
}

/** Where the weights of a trained drafter are. */
export interface DrafterOffer {
  kind: TrainedDrafter;
  weights: string;
  /** Token ids, the most frequent first. */
  vocabulary: string;
}

export interface LoadReport {
  model: ModelDescription;
  cache: CacheState;
  sha256?: string;
  seconds: number;
}

export type GenerateRequest = Omit<GenerateOptions, 'signal' | 'onStep'> & {
  prompt: string;
  /** The trained drafter that is asked for: it is loaded where it is not yet. */
  trained?: DrafterOffer;
};

export type Explained = { title: string; text: string }[];

export interface BenchRow {
  name: string;
  /** What was computed, for people. */
  what: string;
  kernel: string;
  milliseconds: number;
  rate: number;
  unit: 'GFLOP/s' | 'GB/s' | 'tokens/s';
  /** Fraction of the peak that binds, where one does. */
  ofPeak?: number;
  limit?: 'FMA' | 'read';
  naiveMilliseconds?: number;
  /** Largest difference from the naive kernel's output. */
  difference?: number;
  bad?: string;
}

export interface BenchReport {
  fma: number; // GFLOP/s
  read: number; // GB/s
  clock: 'timestamps' | 'wall';
  rows: BenchRow[];
}

export interface WireError {
  name: string;
  code: string;
  message: string;
}

/** Requests, and what answers each. */
export interface Calls {
  /** Without `floor` the device stays as it is. */
  device: { in: { floor?: boolean }; out: DeviceReport };
  load: { in: LoadRequest; out: LoadReport };
  generate: { in: GenerateRequest; out: AnswerResult };
  /** Waits for the model's kernels. */
  compiled: { in: null; out: null };
  bench: { in: { quick: boolean }; out: BenchReport };
  explain: { in: null; out: Explained };
  cached: { in: null; out: { url: string; bytes: number; size: number | undefined; complete: boolean }[] };
  forget: { in: { url: string }; out: null };
  lose: { in: null; out: null };
}

/** What a call tells before it is answered. */
export type Event =
  | { kind: 'progress'; progress: LoadProgress }
  /** What an answer waits for. */
  | { kind: 'waiting'; what: string }
  | { kind: 'pieces'; pieces: { text: string; origin: Origin }[] }
  | { kind: 'step'; step: StepReport; at: number }
  | { kind: 'bench'; row: BenchRow }
  | { kind: 'peaks'; fma: number; read: number };

export type ToWorker = { id: number; call: keyof Calls; argument: unknown } | { id: number; abort: true };
export type FromWorker =
  /** The device is gone, and the model with it: said once, unasked. */
  | { lost: WireError }
  | { id: number; event: Event }
  | { id: number; answer: unknown }
  | { id: number; error: WireError };
