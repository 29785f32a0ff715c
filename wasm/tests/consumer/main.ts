// What a user's project looks like: it must compile with all checks, and build with Vite as it is.
import { Attention, Device, DraftTree, Generator, SunfleckError, Verify, lengths, type AnswerResult, type Piece, type StepReport } from 'sunfleck';

async function write(file: File, signal: AbortSignal): Promise<AnswerResult> {
  const device = await Device.request();
  const generator = await Generator.load(file, { device, signal, onProgress: ({ received, size }) => console.log(received, size ?? '?') });
  const answer = generator.generate('Hello', { drafter: 'ngram', temperature: 0.8, seed: 1n, signal, onStep: (step: StepReport) => console.log(step.draft?.path) });
  for await (const piece of answer) show(piece);
  return answer.result;
}

function show({ text, origin }: Piece): void {
  document.body.append(`${origin}: ${text}`);
}

async function attend(gpuDevice: GPUDevice, query: GPUBuffer, key: GPUBuffer, value: GPUBuffer, output: GPUBuffer): Promise<void> {
  const device = await Device.from(gpuDevice);
  const plan = await Attention.prepare(device, { queryHeads: 9, kvHeads: 3, headDim: 64, maxQueries: 16, maxKeys: 2048, mask: 'tree' });
  const tree = DraftTree.merge(1, [[2, 3], [2, 4]], 16);
  const call = plan.bind({ query, key: { buffer: key, offset: 0 }, value, output, lengths: device.buffer(lengths([[4, 100]])), tree: device.buffer(tree.blob(16)) });
  const encoder = gpuDevice.createCommandEncoder();
  call.encode(encoder, 4, 100);
  gpuDevice.queue.submit([encoder.finish()]);
  const verify = await Verify.prepare(device, { maxNodes: 16, vocabulary: 49152 });
  // @ts-expect-error: there is no such rule
  verify.bind({ logits: output, tree: output, lengths: output }).setRequest(0, { rule: 'luck' });
}

addEventListener('unhandledrejection', ({ reason }) => {
  if (reason instanceof SunfleckError) alert(`${reason.code}: ${reason.message}`);
});
Object.assign(globalThis, { write, attend });

// @ts-expect-error: a model has no such option
void Generator.load('model.gguf', { contxt: 1 });
void Generator.load('model.gguf', { drafters: [{ kind: 'medusa', weights: new Uint8Array(8), nodes: 16 }] }).then((generator) =>
  generator.generate('', { drafter: 'ngram+medusa', tree: 'auto', grammar: { regex: 'yes|no' }, logProbabilities: true }).text(),
);
// @ts-expect-error: a size of trees that is none
void Generator.load('model.gguf').then((generator) => generator.generate('', { tree: 'large' }));
void Generator.load('model.gguf', { costs: { ngram: '{}' } }).then((generator) =>
  generator.generate('', { drafter: 'mtp', drafts: 'drawn', temperature: 0.7, rule: 'block' }).text().then(() => generator.costs),
);
// @ts-expect-error: drafts that are neither the likeliest nor drawn
void Generator.load('model.gguf').then((generator) => generator.generate('', { drafts: 'luck' }));
// @ts-expect-error: a drafter by a name that is none
void Generator.load('model.gguf').then((generator) => generator.generate('', { drafter: 'luck' }));
