// Plain against speculative decoding, on the same prompt with the same seed.
import type { AnswerResult, ModelDescription } from 'sunfleck/grammar';
import type { Controls } from './controls.js';
import { byId, seconds } from './dom.js';
import type { Engine } from './engine.js';
import type { Complain, ModelCard } from './model-card.js';
import type { GenerateRequest } from './protocol.js';
import { Transcript } from './transcript.js';

class Lane {
  readonly transcript: Transcript;
  private readonly element: HTMLElement;

  constructor(id: string) {
    this.element = byId(id);
    this.transcript = new Transcript(this.element.querySelector('.transcript')!);
  }

  begin(note: string): void {
    this.transcript.begin();
    this.bar(0);
    this.note(note);
    this.element.classList.remove('winner');
  }

  bar(part: number): void {
    this.element.querySelector<HTMLElement>('.bar span')!.style.transform = `scaleX(${Math.min(1, part)})`;
  }

  note(text: string): void {
    this.element.querySelector('.lane-figures')!.textContent = text;
  }

  win(): void {
    this.element.classList.add('winner');
  }
}

export class RaceView {
  private readonly plain = new Lane('lane-plain');
  private readonly speculative = new Lane('lane-speculative');
  private readonly prompt = byId<HTMLTextAreaElement>('race-prompt');
  private running: AbortController | undefined;

  constructor(
    private readonly engine: Engine,
    private readonly controls: Controls,
    private readonly model: ModelCard,
    private readonly complain: Complain,
  ) {
    this.prompt.value = 'Once upon a time, there was a little robot who';
    byId('race-run').addEventListener('click', () => void this.run());
    byId('race-stop').addEventListener('click', () => this.running?.abort());
  }

  modelChanged(model: ModelDescription | undefined): void {
    byId<HTMLButtonElement>('race-run').disabled = !model;
  }

  private async run(): Promise<void> {
    if (!this.model.model || this.running) return;
    const running = (this.running = new AbortController());
    const { generate } = this.controls.read();
    const verdict = byId('race-verdict');
    verdict.className = 'verdict';
    verdict.textContent = 'Plain first …';
    byId('race-run').hidden = true;
    byId('race-stop').hidden = false;
    this.plain.begin('running …');
    this.speculative.begin('waits for the plain one to end');
    try {
      // So that neither pays for what is still being compiled.
      this.plain.note('compiling kernels …');
      await this.engine.call('compiled', null, { signal: running.signal });
      const request = { ...generate, prompt: this.prompt.value, logProbabilities: false };
      const first = await this.lane(this.plain, { ...request, drafter: 'none' }, running.signal);
      verdict.textContent = 'Now with drafts …';
      const drafter = generate.drafter === 'none' ? 'ngram' : (generate.drafter ?? 'ngram');
      const second = await this.lane(this.speculative, { ...request, drafter }, running.signal);
      this.judge(first, second, (generate.temperature ?? 0) === 0 && (generate.rule ?? 'greedy') === 'greedy');
    } catch (error) {
      verdict.textContent = running.signal.aborted ? 'Stopped.' : '';
      if (!running.signal.aborted) this.complain(error);
    } finally {
      this.running = undefined;
      byId('race-run').hidden = false;
      byId('race-stop').hidden = true;
    }
  }

  private async lane(lane: Lane, request: GenerateRequest, signal: AbortSignal): Promise<AnswerResult> {
    lane.note('reading the prompt …');
    const result = await this.engine.call('generate', request, {
      signal,
      hear: (event) => {
        if (event.kind === 'pieces') lane.transcript.push(event.pieces);
        if (event.kind === 'step') {
          lane.bar(event.step.tokens / (request.maxTokens ?? 256));
          lane.note(`${event.step.tokensPerSecond.toFixed(2)} tokens/s, ${event.step.tokensPerStep.toFixed(2)} a step`);
        }
      },
    });
    lane.transcript.end();
    lane.bar(1);
    lane.note(`${result.tokens} tokens in ${seconds(result.seconds.decode)}: ${result.tokensPerSecond.toFixed(2)} tokens/s, ${result.tokensPerStep.toFixed(2)} a step`);
    return result;
  }

  private judge(first: AnswerResult, second: AnswerResult, greedy: boolean): void {
    const verdict = byId('race-verdict');
    const same = first.tokenIds.length === second.tokenIds.length && first.tokenIds.every((id, i) => id === second.tokenIds[i]);
    const ratio = second.tokensPerSecond / first.tokensPerSecond;
    const speed = ratio >= 1 ? `${ratio.toFixed(2)} times as fast with drafts` : `${(1 / ratio).toFixed(2)} times slower with drafts`;
    verdict.className = `verdict ${same ? 'same' : greedy ? 'differs' : ''}`;
    verdict.dataset['same'] = String(same);
    const text = same ? '✓ The same text, token for token' : greedy ? '✗ The texts differ: that is a defect' : 'Two texts with the same law: which one a seed gives depends on the draft';
    verdict.textContent = `${text}; ${speed}.`;
    (ratio >= 1 ? this.speculative : this.plain).win();
  }
}
