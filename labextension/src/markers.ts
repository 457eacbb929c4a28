/** The mark beside each cell: how far back one can go and the way there, or why one cannot. */

import { CodeCell, ICodeCellModel } from '@jupyterlab/cells';
import { INotebookTracker, NotebookActions, NotebookPanel } from '@jupyterlab/notebook';
import { TranslationBundle } from '@jupyterlab/translation';

import { Live } from './live';
import { Mark, checksum, markOf } from './marks';

const MARK = 'jp-Zerostart-mark-undo';

export class Markers {
  constructor(
    private readonly notebooks: INotebookTracker,
    private readonly live: Live,
    private readonly undo: (panel: NotebookPanel, before: number, cells: number) => void,
    private readonly trans: TranslationBundle
  ) {
    notebooks.forEach(panel => this.follow(panel));
    notebooks.widgetAdded.connect((_, panel) => this.follow(panel));
    live.changed.connect(() => this.later());
    NotebookActions.executed.connect((_, { cell }) => {
      if (cell instanceof CodeCell) {
        this.seen.set(cell.model, cell.model.executionCount);
        this.later();
      }
    });
  }

  private follow(panel: NotebookPanel): void {
    panel.content.cellInViewportChanged.connect(() => this.later());
    panel.sessionContext.kernelChanged.connect(() => this.later());
    void panel.revealed.then(() => this.later());
  }

  /** Draw anew, once for all that changes until the browser draws. */
  private later(): void {
    if (!this.due) {
      this.due = true;
      requestAnimationFrame(() => {
        this.due = false;
        this.notebooks.forEach(panel => this.draw(panel));
      });
    }
  }

  private draw(panel: NotebookPanel): void {
    const kernel = panel.sessionContext.session?.kernel;
    const undo = kernel ? this.live.undo(kernel.id) : null;
    for (const cell of panel.content.widgets) {
      const number = cell instanceof CodeCell ? cell.model.executionCount : null;
      if (!(cell instanceof CodeCell) || !cell.inputArea) {
        continue; // outside of what is shown
      }
      if (undo === null || number === null) {
        this.put(panel, cell, 0, null);
        continue;
      }
      const seen = this.seen.get(cell.model) === number;
      const ran = checksum(cell.model.sharedModel.getSource());
      this.put(panel, cell, number, markOf({ number, ran, seen }, undo));
    }
  }

  private put(panel: NotebookPanel, cell: CodeCell, number: number, mark: Mark | null): void {
    const host = cell.inputArea!.node;
    cell.toggleClass('jp-Zerostart-undone', mark?.kind === 'undone');
    cell.inputArea!.promptNode.title =
      mark?.kind === 'undone' ? this.trans.__('Undone: the kernel knows nothing of it') : '';
    switch (mark?.kind) {
      case 'undoable':
        this.offer(markIn(host, 'button'), panel, number, mark.cells);
        break;
      case 'gap':
        this.explain(markIn(host, 'span'), number, mark.why);
        break;
      default:
        host.querySelector(`.${MARK}`)?.remove();
    }
  }

  private offer(button: HTMLButtonElement, panel: NotebookPanel, number: number, cells: number): void {
    button.type = 'button';
    button.textContent = cells === 1 ? '↶' : `↶${cells}`;
    label(
      button,
      cells === 1
        ? this.trans.__('Undo cell [%1]', number)
        : this.trans.__('Undo cell [%1] and what ran after it: %2 cells', number, cells)
    );
    button.onclick = () => this.undo(panel, number, cells);
  }

  private explain(mark: HTMLElement, number: number, why: string): void {
    mark.setAttribute('role', 'img');
    mark.textContent = '–';
    const reason = why.charAt(0).toLowerCase() + why.slice(1);
    label(mark, this.trans.__('Cell [%1] cannot be gone back to: %2.', number, reason));
  }

  private due = false;
  private readonly seen = new WeakMap<ICodeCellModel, number | null>();
}

/** The host's mark as an element of this kind; one of the other kind makes way. */
function markIn<K extends 'button' | 'span'>(host: HTMLElement, tag: K): HTMLElementTagNameMap[K] {
  const present = host.querySelector<HTMLElement>(`.${MARK}`);
  if (present?.localName === tag) {
    return present as HTMLElementTagNameMap[K];
  }
  present?.remove();
  const mark = host.appendChild(document.createElement(tag));
  mark.className = MARK;
  return mark;
}

function label(mark: HTMLElement, text: string): void {
  mark.title = text;
  mark.setAttribute('aria-label', text);
}
