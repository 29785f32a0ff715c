// What a visitor can set, with sensible defaults.
import type { DrafterOffer, GenerateRequest } from './protocol.js';
import { byId, make } from './dom.js';

export interface Settings {
  generate: Omit<GenerateRequest, 'prompt'>;
  load: { kv: 'f32' | 'f16' | 'q8' | 'q4'; context: number };
}

interface Field {
  id: string;
  label: string;
  hint?: string;
  options?: [value: string, text: string][];
  number?: { min: number; max: number; step: number };
  value: string;
  text?: boolean;
  reload?: boolean;
  check?: boolean;
}

const FIELDS: Field[] = [
  {
    id: 'drafter',
    label: 'Drafter',
    options: [
      ['ngram', 'n-gram look-up'],
      ['mtp', 'MTP module'],
      ['medusa', 'Medusa heads'],
      ['exit', 'early exit'],
      ['ngram+mtp', 'n-gram, else MTP'],
      ['ngram+medusa', 'n-gram, else Medusa'],
      ['ngram+exit', 'n-gram, else early exit'],
      ['none', 'none: plain decoding'],
    ],
    value: 'ngram',
  },
  {
    id: 'tree',
    label: 'Draft',
    hint: 'auto: what pays here; measured first',
    options: [
      ['', 'as much as the drafter likes'],
      ['auto', 'auto'],
      ['chain:4', 'chains of up to 4'],
      ['chain:8', 'chains of up to 8'],
      ['chain:15', 'chains of up to 15'],
      ['nodes:8', 'trees of up to 8 nodes'],
      ['nodes:16', 'trees of up to 16 nodes'],
    ],
    value: '',
  },
  {
    id: 'drafts',
    label: 'Drafted tokens',
    hint: 'drawn: in chains, above temperature 0',
    options: [
      ['likeliest', 'the likeliest'],
      ['drawn', 'drawn by chance'],
    ],
    value: 'likeliest',
  },
  {
    id: 'rule',
    label: 'Rule',
    options: [
      ['', 'lossless, as the temperature asks'],
      ['greedy', 'greedy'],
      ['rejection', 'rejection (any tree)'],
      ['traversal', 'traversal (any tree)'],
      ['block', 'block (chains)'],
      ['chain-rejection', 'chain rejection (chains)'],
      ['lossy-typical', 'typical (lossy)'],
      ['lossy-threshold', 'threshold (lossy)'],
    ],
    value: '',
  },
  { id: 'temperature', label: 'Temperature', hint: '0 takes the likeliest token', number: { min: 0, max: 2, step: 0.1 }, value: '0' },
  { id: 'top-p', label: 'Top-p', number: { min: 0.05, max: 1, step: 0.05 }, value: '1' },
  { id: 'seed', label: 'Seed', number: { min: 0, max: 4294967295, step: 1 }, value: '1' },
  {
    id: 'grammar-kind',
    label: 'Grammar',
    options: [
      ['', 'none'],
      ['regex', 'regular expression'],
      ['jsonSchema', 'JSON schema'],
    ],
    value: '',
  },
  { id: 'grammar', label: 'Expression or schema', hint: 'the whole answer matches it', text: true, value: '' },
  { id: 'max-tokens', label: 'Most tokens', number: { min: 1, max: 4000, step: 1 }, value: '128' },
  {
    id: 'kv',
    label: 'Keys and values',
    hint: 'loads the model anew',
    options: [
      ['f32', 'f32'],
      ['f16', 'f16'],
      ['q8', '8 bits'],
      ['q4', '4 bits'],
    ],
    value: 'f32',
    reload: true,
  },
  { id: 'context', label: 'Context', hint: 'loads the model anew', number: { min: 128, max: 8192, step: 64 }, value: '1024', reload: true },
  { id: 'raw', label: 'Continue the text, no chat', check: true, value: '' },
  { id: 'probabilities', label: 'Show probabilities', check: true, value: 'on' },
];

/** Tokens of each place whose probabilities are asked for: drafted ones that are not among them are unlikely. */
const LIKELIEST = 8;

const TRAINED = /(mtp|medusa|exit)$/;

export class Controls {
  private trained: DrafterOffer[] = [];
  private readonly inputs = new Map<string, HTMLInputElement | HTMLSelectElement>();

  constructor(private readonly onReload: () => void) {
    const grid = byId('controls');
    for (const field of FIELDS) {
      const id = `set-${field.id}`;
      let input: HTMLInputElement | HTMLSelectElement;
      if (field.options) {
        input = make('select', { id }, ...field.options.map(([value, text]) => make('option', { value, selected: value === field.value }, text)));
      } else if (field.check) {
        input = make('input', { id, type: 'checkbox', checked: field.value === 'on' });
      } else if (field.text) {
        input = make('input', { id, type: 'text', value: field.value, autocomplete: 'off', spellcheck: 'false' });
      } else {
        input = make('input', { id, type: 'number', inputmode: 'decimal', value: field.value, ...field.number });
      }
      if (field.reload) input.addEventListener('change', () => this.onReload());
      this.inputs.set(field.id, input);
      const label = make('label', { class: field.check ? 'field check' : 'field', for: id });
      const text = make('span', {}, field.label);
      label.append(...(field.check ? [input, text] : [text, input]));
      if (field.hint) label.append(make('small', {}, field.hint));
      grid.append(label);
    }
  }

  /** Trained drafters can be chosen where their weights are. */
  offer(drafters: DrafterOffer[]): void {
    this.trained = drafters;
    const select = this.inputs.get('drafter') as HTMLSelectElement;
    for (const option of select.options) option.disabled = TRAINED.test(option.value) && !this.offered(option.value);
    if (select.selectedOptions[0]?.disabled) select.value = 'ngram';
  }

  private offered(drafter: string): DrafterOffer | undefined {
    return this.trained.find(({ kind }) => drafter.endsWith(kind));
  }

  set(id: string, value: string | boolean): void {
    const input = this.inputs.get(id);
    if (input instanceof HTMLInputElement && input.type === 'checkbox') input.checked = value === true;
    else if (input) input.value = String(value);
  }

  read(): Settings {
    const value = (id: string) => this.inputs.get(id)!.value;
    const checked = (id: string) => (this.inputs.get(id) as HTMLInputElement).checked;
    const number = (id: string) => {
      const field = FIELDS.find((one) => one.id === id)!;
      const given = Number.parseFloat(value(id));
      const { min, max } = field.number!;
      return Number.isFinite(given) ? Math.min(max, Math.max(min, given)) : Number(field.value);
    };
    const drafter = value('drafter');
    const generate: Settings['generate'] = {
      drafter: drafter as NonNullable<GenerateRequest['drafter']>,
      temperature: number('temperature'),
      topP: number('top-p'),
      seed: Math.round(number('seed')),
      maxTokens: Math.round(number('max-tokens')),
      raw: checked('raw'),
      logProbabilities: checked('probabilities') && LIKELIEST,
    };
    const trained = TRAINED.test(drafter) ? this.offered(drafter) : undefined;
    if (trained) generate.trained = trained;
    if (value('drafts') === 'drawn') generate.drafts = 'drawn';
    const [bound, size] = value('tree').split(':');
    if (bound === 'auto') generate.tree = 'auto';
    else if (bound === 'chain') generate.tree = { chain: Number(size) };
    else if (bound === 'nodes') generate.tree = { nodes: Number(size) };
    const [kind, text] = [value('grammar-kind'), value('grammar')];
    if (kind === 'regex') generate.grammar = { regex: text };
    else if (kind === 'jsonSchema') generate.grammar = { jsonSchema: text };
    const rule = value('rule');
    if (rule) generate.rule = rule as NonNullable<GenerateRequest['rule']>;
    return { generate, load: { kv: value('kv') as Settings['load']['kv'], context: Math.round(number('context')) } };
  }
}
