// The draft tree of the last step: root on the left, the kept path and the bonus token marked.
import type { StepDraft } from 'sunfleck/grammar';
import { make, onFrame, svg } from './dom.js';

const CHARACTER = 7.6;
const HEIGHT = 28;
const ROW = 42;
const GAP = 26;

interface Box {
  label: string;
  kind: 'root' | 'kept' | 'bonus' | 'dropped';
  probability?: string | undefined;
  parent: number | null;
  depth: number;
  line: number;
}

function shown(text: string | null): string {
  if (text === null) return '?';
  const visible = text.replaceAll('\n', '⏎').replaceAll('\t', '⇥').replaceAll(' ', '␣');
  return visible.length > 14 ? `${visible.slice(0, 13)}…` : visible || '∅';
}

/** Of drafted tokens that were not kept, from the likeliest ones in their places: those beside the kept path. */
function beside(draft: StepDraft, node: number): string | undefined {
  const place = draft.likeliest[draft.path.indexOf(draft.parents[node] ?? -1)];
  if (!place?.length) return undefined;
  const found = place.find(({ id }) => id === draft.tokens[node]) ?? place.at(-1)!;
  const probability = found.probability.toFixed(2);
  return found.id === draft.tokens[node] ? probability : `< ${probability === '0.00' ? '0.01' : probability}`;
}

/** The nodes with the bonus token as one more, each on its line. */
function boxes(draft: StepDraft): Box[] {
  const kept = new Map(draft.path.map((node, i) => [node, i]));
  const list: Box[] = draft.tokens.map((_, node) => {
    const parent = draft.parents[node] ?? null;
    const order = kept.get(node);
    const kind = node === 0 ? 'root' : order === undefined ? 'dropped' : 'kept';
    const probability = kind === 'dropped' ? beside(draft, node) : order ? draft.probabilities[order - 1]?.toFixed(2) : undefined;
    return { label: shown(draft.texts[node] ?? null), kind, parent, depth: 0, line: 0, probability };
  });
  if (draft.bonus) {
    const parent = draft.path.at(-1) ?? 0;
    list.push({ label: shown(draft.bonus.text), kind: 'bonus', parent, depth: 0, line: 0, probability: draft.probabilities[draft.path.length - 1]?.toFixed(2) });
  }
  const children: number[][] = list.map(() => []);
  list.forEach((box, node) => {
    if (box.parent === null) return;
    box.depth = list[box.parent]!.depth + 1;
    // What was kept comes first, so that the path is straight.
    if (box.kind === 'kept' || box.kind === 'bonus') children[box.parent]!.unshift(node);
    else children[box.parent]!.push(node);
  });
  let line = 0;
  const place = (node: number): void => {
    list[node]!.line = line;
    children[node]!.forEach((child, i) => {
      if (i > 0) line++;
      place(child);
    });
  };
  place(0);
  return list;
}

export class TreeView {
  readonly show = onFrame((draft: StepDraft) => this.draw(draft));

  constructor(
    private readonly element: HTMLElement,
    private readonly empty: string,
  ) {}

  clear(): void {
    this.element.replaceChildren(make('p', { class: 'empty' }, this.empty));
    this.element.setAttribute('aria-label', 'No draft yet');
  }

  private draw(draft: StepDraft): void {
    const list = boxes(draft);
    const depth = Math.max(...list.map((box) => box.depth));
    const widths = Array.from({ length: depth + 1 }, (_, level) =>
      Math.max(...list.filter((box) => box.depth === level).map((box) => box.label.length * CHARACTER + 18)),
    );
    const starts = widths.map((_, level) => widths.slice(0, level).reduce((sum, width) => sum + width + GAP, 8));
    const lines = Math.max(...list.map((box) => box.line)) + 1;
    const width = starts[depth]! + widths[depth]! + 8;
    const height = lines * ROW + 12;
    const picture = svg('svg', { width, height, viewBox: `0 0 ${width} ${height}`, 'aria-hidden': 'true' });
    const middle = (box: Box) => 6 + box.line * ROW + HEIGHT / 2;
    for (const box of list) {
      if (box.parent === null) continue;
      const parent = list[box.parent]!;
      const [x1, y1] = [starts[parent.depth]! + parent.label.length * CHARACTER + 18, middle(parent)];
      const [x2, y2] = [starts[box.depth]!, middle(box)];
      const bend = x2 - GAP / 2;
      picture.append(svg('path', { class: box.kind, d: `M${x1} ${y1}H${bend - 8}C${bend} ${y1} ${bend - 6} ${y2} ${x2} ${y2}` }));
    }
    for (const box of list) {
      const [x, y] = [starts[box.depth]!, middle(box)];
      const own = box.label.length * CHARACTER + 18;
      const group = svg('g', { class: box.kind }, svg('rect', { x, y: y - HEIGHT / 2, width: own, height: HEIGHT, rx: 7 }));
      group.append(svg('text', { x: x + own / 2, y: y + 4.5, 'text-anchor': 'middle' }, box.label));
      if (box.probability !== undefined) {
        group.append(svg('text', { class: 'probability', x: x + own / 2, y: y + HEIGHT / 2 + 10, 'text-anchor': 'middle' }, box.probability));
      }
      picture.append(group);
    }
    this.element.replaceChildren(picture);
    const kept = draft.path.length - 1;
    this.element.setAttribute('aria-label', `Draft tree of ${draft.tokens.length - 1} tokens, of which ${kept} were kept`);
  }
}
