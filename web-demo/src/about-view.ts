// What this device is, and what was chosen for it.
import type { ModelDescription } from 'sunfleck';
import { byId, bytes, make } from './dom.js';
import type { Engine } from './engine.js';
import type { Complain } from './model-card.js';
import type { DeviceReport } from './protocol.js';

/** Limits that kernels live by. */
const OURS = /Compute|StorageBuffer|BufferSize|BindingSize|BindGroups$|OffsetAlignment/;

export class AboutView {
  private floor = false;

  constructor(
    private readonly engine: Engine,
    private readonly complain: Complain,
    private readonly deviceChanged: () => void,
  ) {
    byId('about-lose').addEventListener('click', () => void this.lose());
    byId('about-floor').addEventListener('click', () => void this.toggleFloor());
  }

  modelChanged(_: ModelDescription | undefined): void {}

  async show(): Promise<void> {
    try {
      this.describe(await this.engine.call('device', { floor: this.floor }));
      await this.listCache();
      const box = byId('about-kernels');
      box.replaceChildren(make('p', { class: 'empty' }, 'Planning …'));
      const explained = await this.engine.call('explain', null);
      box.replaceChildren(...explained.flatMap(({ title, text }) => [make('h3', {}, title), make('pre', {}, text)]));
    } catch (error) {
      byId('about-kernels').replaceChildren(make('p', { class: 'empty' }, 'Not known: there is no device.'));
      this.complain(error);
    }
  }

  private describe({ adapter, features, limits, capabilities, subgroupsNote }: DeviceReport): void {
    const { subgroups } = capabilities;
    const entries: [string, string][] = [
      ['Vendor', adapter['vendor'] || 'not told'],
      ['Architecture', adapter['architecture'] || 'not told'],
      ['Device', adapter['description'] || adapter['device'] || 'not told'],
      ['Kernels for', { software: 'a CPU that plays a GPU', hardware: 'a GPU', unknown: 'any GPU: the browser does not tell which' }[capabilities.class]],
      ['Subgroups', subgroups ? `${subgroups[0]} to ${subgroups[1]} invocations, found to work by a probe` : `not used${subgroupsNote ? `: ${subgroupsNote}` : ': not offered'}`],
      ['16-bit floats', capabilities.shaderF16 ? 'yes' : 'no: f16 is stored and unpacked, which every device can'],
      ['Timestamps', capabilities.timestamps ? 'yes' : 'no'],
      ['WGSL written for', capabilities.compiler === 'tint' ? 'Tint, with subgroups' : 'every compiler'],
      ['Browser', navigator.userAgent],
    ];
    byId('about-adapter').replaceChildren(...entries.flatMap(([name, value]) => [make('dt', {}, name), make('dd', {}, value)]));
    byId('about-features').replaceChildren(...(features.length > 0 ? features : ['none']).map((feature) => make('li', {}, feature)));
    byId('about-limits').replaceChildren(...Object.entries(limits).filter(([name]) => OURS.test(name)).flatMap(([name, value]) => [make('dt', {}, name), make('dd', {}, value.toLocaleString('en'))]));
  }

  private async listCache(): Promise<void> {
    const kept = await this.engine.call('cached', null);
    const box = byId('about-cache');
    if (kept.length === 0) {
      box.replaceChildren(make('p', { class: 'empty' }, 'None.'));
      return;
    }
    box.replaceChildren(
      ...kept.map(({ url, bytes: count, complete }) => {
        const forget = () => void this.engine.call('forget', { url }).then(() => this.listCache(), this.complain);
        const name = decodeURIComponent(url.split('/').at(-1) ?? url);
        return make('div', { class: 'kept-model' }, `${name}, ${bytes(count)}${complete ? '' : ' (not complete)'}`, make('button', { click: forget, 'aria-label': `Remove ${name}` }, 'Remove'));
      }),
    );
  }

  private async lose(): Promise<void> {
    // The card on top hears of it as of any other loss.
    await this.engine.call('lose', null).catch(this.complain);
  }

  private async toggleFloor(): Promise<void> {
    this.floor = !this.floor;
    byId('about-floor').setAttribute('aria-pressed', String(this.floor));
    await this.show();
    this.deviceChanged();
  }
}
