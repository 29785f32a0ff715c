// Benchmarks on the visitor's GPU.
import type { ModelDescription } from 'sunfleck';
import { byId, make } from './dom.js';
import type { Engine } from './engine.js';
import type { Complain } from './model-card.js';
import type { BenchReport, BenchRow, DeviceReport } from './protocol.js';

export class KernelsView {
  private running: AbortController | undefined;
  private report = '';

  constructor(
    private readonly engine: Engine,
    private readonly complain: Complain,
  ) {
    byId('bench-run').addEventListener('click', () => void this.run());
    byId('bench-stop').addEventListener('click', () => this.running?.abort());
    byId('bench-copy').addEventListener('click', () => void this.copy());
  }

  modelChanged(_: ModelDescription | undefined): void {}

  private async run(): Promise<void> {
    if (this.running) return;
    const running = (this.running = new AbortController());
    const peaks = byId('bench-peaks');
    const body = byId('bench-table').querySelector('tbody')!;
    body.replaceChildren();
    byId('bench-plot').replaceChildren();
    byId('bench-run').hidden = true;
    byId('bench-stop').hidden = false;
    byId<HTMLButtonElement>('bench-copy').disabled = true;
    peaks.textContent = 'Measuring the peaks …';
    try {
      const device = await this.engine.call('device', {});
      const quick = device.capabilities.class === 'software';
      const report = await this.engine.call(
        'bench',
        { quick },
        {
          signal: running.signal,
          hear: (event) => {
            if (event.kind === 'peaks') peaks.textContent = `Peaks: ${event.fma.toFixed(1)} GFLOP/s of f32 multiply-adds, ${event.read.toFixed(1)} GB/s of reading. Measuring kernels …`;
            if (event.kind === 'bench') this.row(event.row);
          },
        },
      );
      const clock = report.clock === 'timestamps' ? 'the GPU’s timestamps' : 'the wall clock';
      peaks.textContent = `Peaks: ${report.fma.toFixed(1)} GFLOP/s of f32 multiply-adds, ${report.read.toFixed(1)} GB/s of reading. Timed by ${clock}.`;
      peaks.dataset['done'] = 'true';
      this.report = markdown(report, device);
      byId<HTMLButtonElement>('bench-copy').disabled = false;
    } catch (error) {
      peaks.textContent = running.signal.aborted ? 'Stopped.' : '';
      if (!running.signal.aborted) this.complain(error);
    } finally {
      this.running = undefined;
      byId('bench-run').hidden = false;
      byId('bench-stop').hidden = true;
    }
  }

  private row(row: BenchRow): void {
    byId('bench-table').hidden = false;
    const cell = (text: string) => make('td', {}, text);
    const name = make('td', {}, row.name, make('small', {}, row.bad ? `✗ ${row.bad}` : row.kernel));
    byId('bench-table')
      .querySelector('tbody')!
      .append(make('tr', {}, name, cell(time(row.milliseconds)), cell(`${row.rate.toFixed(1)} ${row.unit}`), cell(percent(row)), cell(row.naiveMilliseconds === undefined ? '–' : time(row.naiveMilliseconds)), cell(faster(row))));
    const bar = (kind: string, part: number, text: string) => {
      const fill = make('span');
      fill.style.transform = `scaleX(${Math.min(1, part)})`;
      return make('div', { class: `plot-bar ${kind}` }, make('div', { class: 'bar', 'aria-hidden': 'true' }, fill), text);
    };
    const ours = row.ofPeak ?? 0;
    const plot = make('div', { class: 'plot-row' }, make('span', {}, `${row.name} – ${row.what}`), bar('ours', ours, `${percent(row)} of ${row.limit}`));
    if (row.naiveMilliseconds !== undefined) {
      const theirs = (ours * row.milliseconds) / row.naiveMilliseconds;
      plot.append(bar('naive', theirs, `naive ${(theirs * 100).toFixed(0)} %`));
    }
    byId('bench-plot').append(plot);
  }

  private async copy(): Promise<void> {
    const button = byId('bench-copy');
    try {
      await navigator.clipboard.writeText(this.report);
      button.textContent = 'Copied';
    } catch {
      // Without the right to the clipboard the text is shown, to be copied by hand.
      byId('bench-plot').after(make('pre', {}, this.report));
      button.textContent = 'Shown below';
    }
    setTimeout(() => (button.textContent = 'Copy report'), 2000);
  }
}

function time(milliseconds: number): string {
  return milliseconds < 1 ? `${(milliseconds * 1000).toFixed(0)} µs` : `${milliseconds.toFixed(2)} ms`;
}

function percent(row: BenchRow): string {
  return row.ofPeak === undefined ? '–' : `${(row.ofPeak * 100).toFixed(0)} %`;
}

function faster(row: BenchRow): string {
  return row.naiveMilliseconds === undefined ? '–' : `${(row.naiveMilliseconds / row.milliseconds).toFixed(1)} ×`;
}

function markdown(report: BenchReport, device: DeviceReport): string {
  const adapter = Object.values(device.adapter).filter(Boolean).join(', ');
  const lines = report.rows.map((row) => `| ${row.name} | ${row.kernel} | ${time(row.milliseconds)} | ${row.rate.toFixed(1)} ${row.unit} | ${percent(row)} of ${row.limit} | ${faster(row)} |`);
  return [
    `sunfleck kernels on ${adapter || 'an adapter without a name'}`,
    `${navigator.userAgent}; subgroups ${device.capabilities.subgroups?.join(' to ') ?? 'not used'}; timed by ${report.clock}`,
    `peaks: ${report.fma.toFixed(1)} GFLOP/s f32 multiply-adds, ${report.read.toFixed(1)} GB/s reading`,
    '',
    '| case | kernel | time | rate | of peak | faster than naive |',
    '|---|---|---|---|---|---|',
    ...lines,
  ].join('\n');
}
