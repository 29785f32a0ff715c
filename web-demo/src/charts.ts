// Live charts of the last steps.
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import type { StepReport } from 'sunfleck/grammar';
import { byId } from './dom.js';

const STEPS = 60;

interface Series {
  color: string; // a custom property
  fill?: string;
  bars?: boolean;
}

class Chart {
  private readonly element: HTMLElement;
  private plot: uPlot | undefined;
  private data: uPlot.AlignedData;

  constructor(id: string, private readonly series: Series[]) {
    this.element = byId(id);
    this.data = [[], ...series.map(() => [])];
    // A hidden view has no width: drawn when it is shown, and again when it changes.
    new ResizeObserver(() => this.resize()).observe(this.element);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.build());
    new MutationObserver(() => this.build()).observe(document.documentElement, { attributes: true, attributeFilter: ['data-theme'] });
  }

  set(data: uPlot.AlignedData): void {
    this.data = data;
    if (this.plot && data[0].length > 0) this.plot.setData(data);
    else this.build();
  }

  private resize(): void {
    const { clientWidth: width, clientHeight: height } = this.element;
    if (width === 0) return;
    if (this.plot) this.plot.setSize({ width, height });
    else this.build();
  }

  private build(): void {
    const { clientWidth: width, clientHeight: height } = this.element;
    // What is hidden is built when it is shown: with the colours of then.
    this.plot?.destroy();
    this.plot = undefined;
    if (width === 0 || this.data[0].length === 0) return;
    const style = getComputedStyle(this.element);
    const color = (name: string) => style.getPropertyValue(name).trim();
    const axis = { stroke: color('--quiet'), grid: { stroke: color('--line'), width: 1 }, ticks: { show: false }, font: '11px system-ui' };
    const bars = uPlot.paths.bars?.({ size: [0.7, 24] });
    this.plot = new uPlot(
      {
        width,
        height,
        legend: { show: false },
        cursor: { show: false },
        padding: [8, 4, 0, 0],
        scales: { x: { time: false, range: (_, least, most) => [least - 0.6, most + 0.6] }, y: { range: (_, __, most) => [0, Math.max(most * 1.1, 1)] } },
        axes: [
          { ...axis, grid: { show: false }, size: 20, values: (_, values) => values.map((v) => (Number.isInteger(v) ? String(v) : '')) },
          { ...axis, size: 34, space: 26 },
        ],
        series: [
          {},
          ...this.series.map((one) => ({
            stroke: color(one.color),
            width: 1.6,
            points: { show: false },
            ...(one.fill ? { fill: color(one.fill) } : {}),
            ...(one.bars && bars ? { paths: bars } : {}),
          })),
        ],
      },
      this.data,
      this.element,
    );
  }
}

/** The three charts of an answer, fed with steps. */
export class Charts {
  private readonly speed = new Chart('chart-speed', [{ color: '--leaf', fill: '--leaf-soft' }]);
  private readonly kept = new Chart('chart-kept', [
    { color: '--sun', fill: '--sun-soft', bars: true },
    { color: '--leaf', fill: '--leaf-soft', bars: true },
  ]);
  private readonly time = new Chart('chart-time', [
    { color: '--leaf', fill: '--leaf-soft', bars: true },
    { color: '--sun', fill: '--sun-soft', bars: true },
  ]);
  private steps: { step: number; drafted: number; kept: number; draft: number; total: number; tokens: number }[] = [];
  private scheduled = false;

  clear(): void {
    this.steps = [];
    this.later();
  }

  add(report: StepReport): void {
    const { draft } = report;
    if (!draft) return;
    const times = draft.seconds;
    this.steps.push({
      step: report.steps,
      drafted: draft.tokens.length - 1,
      kept: draft.path.length,
      draft: times.draft * 1000,
      total: (times.draft + times.verify) * 1000,
      tokens: draft.path.length,
    });
    if (this.steps.length > STEPS) this.steps.shift();
    this.later();
  }

  /** Draws at most ten times a second. */
  private later(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    setTimeout(() => {
      this.scheduled = false;
      this.draw();
    }, 100);
  }

  private draw(): void {
    const { steps } = this;
    const numbers = steps.map((one) => one.step);
    // The rate over the last eight steps, so that one long draft is no spike.
    const rate = steps.map((_, i) => {
      const some = steps.slice(Math.max(0, i - 7), i + 1);
      const milliseconds = some.reduce((sum, one) => sum + one.total, 0);
      return milliseconds > 0 ? (1000 * some.reduce((sum, one) => sum + one.tokens, 0)) / milliseconds : 0;
    });
    this.speed.set([numbers, rate]);
    this.kept.set([numbers, steps.map((one) => one.drafted), steps.map((one) => one.kept - 1)]);
    this.time.set([numbers, steps.map((one) => one.total), steps.map((one) => one.draft)]);
  }
}
