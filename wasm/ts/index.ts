/**
 * Attention, draft-tree verification and speculative text generation on WebGPU.
 *
 * ```ts
 * import { Generator } from 'sunfleck';
 *
 * const generator = await Generator.load('model.gguf', { onProgress: (p) => console.log(p.received, p.size) });
 * for await (const piece of generator.generate('Once upon a time')) console.log(piece.text);
 * ```
 *
 * @module
 */
export { Attention, AttentionCall, lengths, type AttentionIo, type AttentionProblem, type ElementType } from './attention.js';
export type { BufferArgument } from './buffers.js';
export { Device, type Capabilities, type DeviceOptions, type RequestOptions } from './device.js';
export { cachedModels, removeCachedModel, type CacheState } from './download.js';
export {
  ArgumentError,
  AttentionError,
  ChecksumError,
  DefectError,
  DeviceLostError,
  DownloadError,
  GenerateError,
  GpuError,
  GrammarError,
  ModelError,
  SunfleckError,
  TreeError,
  VerifyError,
  WebGpuUnavailableError,
} from './errors.js';
export { Answer } from './answer.js';
export {
  Generator,
  type AnswerResult,
  type Counts,
  type DrafterOptions,
  type GenerateOptions,
  type LoadOptions,
  type LoadProgress,
  type ModelDescription,
  type ModelSource,
  type NewToken,
  type Origin,
  type Piece,
  type StepDraft,
  type StepReport,
  type TrainedDrafter,
} from './generator.js';
export { init, type WasmSource } from './init.js';
export { DraftTree, type DrawKind, type TreeDrawing } from './tree.js';
export {
  Verify,
  VerifyCall,
  type Rule,
  type RuleOptions,
  type Sampling,
  type Verdict,
  type VerifyIo,
  type VerifyProblem,
  type VerifyRequest,
} from './verify.js';
