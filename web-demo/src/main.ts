import { AboutView } from './about-view.js';
import { Controls } from './controls.js';
import { byId, make } from './dom.js';
import { Engine, EngineError } from './engine.js';
import { KernelsView } from './kernels-view.js';
import { ModelCard } from './model-card.js';
import { RaceView } from './race-view.js';
import { WriteView } from './write-view.js';

const engine = new Engine((error) => model.lost(error));

/** Shows an error with what can be done about it. */
function complain(error: unknown, retry?: { label: string; run: () => void }): void {
  const alert = byId('alert');
  const titles: Record<string, string> = {
    'webgpu-unavailable': 'No WebGPU here',
    'device-lost': 'The GPU device was lost',
    model: 'This model can’t be used',
    download: 'The download failed',
    checksum: 'The file is damaged',
    gpu: 'The GPU refused',
    defect: 'A defect of Sunfleck',
  };
  const code = error instanceof EngineError ? error.code : 'other';
  const message = error instanceof Error ? error.message : String(error);
  const body = make('div', {}, make('strong', {}, titles[code] ?? 'That did not work'), make('p', {}, message));
  const buttons = make('div', { class: 'actions' });
  if (retry) {
    const again = () => {
      alert.hidden = true;
      retry.run();
    };
    buttons.append(make('button', { click: again }, retry.label));
  }
  buttons.append(make('button', { click: () => (alert.hidden = true) }, 'Dismiss'));
  alert.dataset['code'] = code;
  alert.replaceChildren(body, buttons);
  alert.hidden = false;
}

const model = new ModelCard(engine, () => controls.read().load, complain);
const controls = new Controls(() => void model.reload());
const about = new AboutView(engine, complain, () => model.deviceChanged());
const views = [new WriteView(engine, controls, model, complain), new RaceView(engine, controls, model, complain), new KernelsView(engine, complain), about];

model.onChange((loaded) => {
  controls.offerMtp(loaded?.mtp ?? false);
  for (const view of views) view.modelChanged(loaded);
});

const tabs = [...document.querySelectorAll<HTMLButtonElement>('[role=tab]')];

function select(tab: HTMLButtonElement, focus = false): void {
  for (const other of tabs) {
    const chosen = other === tab;
    other.setAttribute('aria-selected', String(chosen));
    other.tabIndex = chosen ? 0 : -1;
    byId(other.getAttribute('aria-controls')!).hidden = !chosen;
  }
  if (focus) tab.focus();
  history.replaceState(null, '', `#${tab.id.slice(4)}`);
  if (tab.id === 'tab-about') void about.show();
}

for (const [i, tab] of tabs.entries()) {
  tab.addEventListener('click', () => select(tab));
  tab.addEventListener('keydown', ({ key }) => {
    const to = { ArrowRight: i + 1, ArrowLeft: i - 1 + tabs.length, Home: 0, End: tabs.length - 1 }[key];
    if (to !== undefined) select(tabs[to % tabs.length]!, true);
  });
}
const asked = tabs.find((tab) => tab.id === `tab-${location.hash.slice(1)}`);
if (asked) select(asked);

byId('theme').addEventListener('click', () => {
  const root = document.documentElement;
  const isDark = root.dataset['theme'] ? root.dataset['theme'] === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  root.dataset['theme'] = isDark ? 'light' : 'dark';
  try {
    localStorage.setItem('theme', root.dataset['theme']);
  } catch {
    // Not kept where storage is forbidden.
  }
});
try {
  const theme = localStorage.getItem('theme');
  if (theme) document.documentElement.dataset['theme'] = theme;
} catch {
  // As above.
}

if (import.meta.env.PROD && 'serviceWorker' in navigator) {
  navigator.serviceWorker.register('./offline.js').catch(() => {
    // The page works without it, but not offline.
  });
}

void model.start();
