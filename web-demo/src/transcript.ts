// Streamed text, coloured by how each token came about.
import type { Origin } from 'sunfleck/grammar';
import { make } from './dom.js';

export class Transcript {
  text = '';
  private last: { origin: Origin; span: HTMLSpanElement } | undefined;
  private waiting: { text: string; origin: Origin }[] = [];
  private scheduled = false;

  constructor(private readonly element: HTMLElement) {}

  /** Empties it; `given` is what the answer continues. */
  begin(given = ''): void {
    this.text = '';
    this.waiting = [];
    this.last = undefined;
    this.element.replaceChildren(...(given ? [make('span', { class: 'given' }, given)] : []));
  }

  push(pieces: readonly { text: string; origin: Origin }[]): void {
    for (const piece of pieces) this.text += piece.text;
    this.waiting.push(...pieces);
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => this.draw());
  }

  /** Shows at once what came last, so that nothing is missing when the answer is said to be over. */
  end(): void {
    if (this.scheduled) this.draw();
  }

  private draw(): void {
    if (!this.scheduled) return;
    this.scheduled = false;
    const { element } = this;
    const atEnd = element.scrollHeight - element.scrollTop - element.clientHeight < 40;
    for (const { text, origin } of this.waiting) {
      if (this.last?.origin === origin) {
        this.last.span.append(text);
      } else {
        const span = make('span', { class: origin }, text);
        element.append(span);
        this.last = { origin, span };
      }
    }
    this.waiting = [];
    if (atEnd) element.scrollTop = element.scrollHeight;
  }
}
