// Prompt, answer, tree and charts.
import type { AnswerResult, ModelDescription, StepReport } from 'sunfleck/grammar';
import { Charts } from './charts.js';
import type { Controls } from './controls.js';
import { byId, make, onFrame, seconds } from './dom.js';
import type { Engine } from './engine.js';
import { EngineError } from './engine.js';
import type { Complain, ModelCard } from './model-card.js';
import { Transcript } from './transcript.js';
import { TreeView } from './tree-view.js';

const EXAMPLES: { label: string; prompt: string; raw: boolean }[] = [
  { label: 'A story', prompt: 'Once upon a time, there was a little robot who', raw: true },
  { label: 'Explain', prompt: 'Explain in three sentences why the sky is blue.', raw: false },
  {
    label: 'Repeat with a change',
    prompt: 'Rewrite this list with every colour in capitals: red apples, green pears, yellow lemons, red cherries, green grapes, yellow bananas.',
    raw: false,
  },
  { label: 'Code', prompt: 'Write a Python function that counts the vowels in a text, then call it with two examples.', raw: false },
];

export class WriteView {
  private readonly transcript = new Transcript(byId('output'));
  private readonly tree = new TreeView(byId('tree'), 'What the drafter proposes, with the path that the model kept.');
  private readonly charts = new Charts();
  private readonly prompt = byId<HTMLTextAreaElement>('prompt');
  private running: AbortController | undefined;
  private readonly figures = onFrame((step: StepReport) => this.show(step));

  constructor(
    private readonly engine: Engine,
    private readonly controls: Controls,
    private readonly model: ModelCard,
    private readonly complain: Complain,
  ) {
    for (const { label, prompt, raw } of EXAMPLES) {
      const choose = () => {
        this.prompt.value = prompt;
        controls.set('raw', raw);
        this.prompt.focus();
      };
      byId('examples').append(make('button', { type: 'button', click: choose }, label));
    }
    this.prompt.value = EXAMPLES[0]!.prompt;
    controls.set('raw', EXAMPLES[0]!.raw);
    byId('run').addEventListener('click', () => void this.run());
    byId('stop').addEventListener('click', () => this.running?.abort());
    this.prompt.addEventListener('keydown', (event) => {
      if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) void this.run();
    });
    document.addEventListener('keydown', (event) => {
      if (event.key === 'Escape') this.running?.abort();
    });
  }

  modelChanged(model: ModelDescription | undefined): void {
    byId<HTMLButtonElement>('run').disabled = !model;
  }

  private async run(): Promise<void> {
    if (!this.model.model || this.running) return;
    const running = (this.running = new AbortController());
    const { generate } = this.controls.read();
    this.busy(true);
    this.transcript.begin(generate.raw ? this.prompt.value : '');
    this.tree.clear();
    this.charts.clear();
    this.explain(null);
    byId('tree-note').textContent = 'step –';
    for (const id of ['stat-speed', 'stat-kept', 'stat-accepted', 'stat-first']) byId(id).textContent = '–';
    byId('summary').textContent = 'Reading the prompt …';
    try {
      const result = await this.engine.call(
        'generate',
        { ...generate, prompt: this.prompt.value },
        {
          signal: running.signal,
          hear: (event) => {
            if (event.kind === 'pieces') this.transcript.push(event.pieces);
            if (event.kind === 'step') this.step(event.step);
            if (event.kind === 'waiting') byId('summary').textContent = event.what;
          },
        },
      );
      this.transcript.end();
      byId('summary').textContent = summary(result);
      this.explain(result.explained);
    } catch (error) {
      this.transcript.end();
      if (running.signal.aborted) byId('summary').textContent = 'Stopped.';
      else if (error instanceof EngineError && error.code === 'device-lost') byId('summary').textContent = 'The device was lost.';
      else {
        byId('summary').textContent = '';
        this.complain(error);
      }
    } finally {
      this.running = undefined;
      this.busy(false);
    }
  }

  /** What an adaptive tree chose, and why. */
  private explain(text: string | null): void {
    const box = byId('explained');
    box.hidden = !text;
    box.querySelector('pre')!.textContent = text ?? '';
  }

  private busy(busy: boolean): void {
    byId('run').hidden = busy;
    byId('stop').hidden = !busy;
  }

  private step(step: StepReport): void {
    this.figures(step);
    if (!step.draft) return;
    this.charts.add(step);
    // A step without a draft leaves the last tree to be looked at.
    if (step.draft.tokens.length > 1) this.tree.show(step.draft);
    const { length } = step.draft.tokens;
    byId('tree-note').textContent = length > 1 ? `step ${step.steps}: ${step.draft.path.length - 1} of ${length - 1} kept` : `step ${step.steps}: nothing drafted`;
  }

  private show(step: StepReport): void {
    const set = (id: string, text: string) => (byId(id).textContent = text);
    set('stat-first', seconds(step.seconds.prefill));
    if (step.steps === 0) {
      // Drawn a frame later, when a short answer may be over.
      if (this.running) byId('summary').textContent = 'Writing …';
      return;
    }
    set('stat-speed', step.tokensPerSecond.toFixed(step.tokensPerSecond < 10 ? 2 : 1));
    set('stat-kept', step.tokensPerStep.toFixed(2));
    set('stat-accepted', step.drafted > 0 ? `${Math.round((100 * step.accepted) / step.drafted)} %` : '–');
  }
}

function summary(result: AnswerResult): string {
  const why = {
    end: 'the model ended it',
    stop: 'a stop text',
    length: 'as long as was asked for',
    context: 'the context is full',
    cancelled: 'stopped',
  }[result.finish];
  const { prefill, decode } = result.seconds;
  return `${result.tokens} tokens in ${result.steps} steps, ${result.accepted} of ${result.drafted} drafted tokens kept; prompt of ${result.promptTokens} read in ${seconds(prefill)}, answer in ${seconds(decode)} (${why}).`;
}
