/** The mark beside each cell that can be undone: how far back one can go, and the way there. */

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
    const present = host.querySelector<HTMLButtonElement>(`.${MARK}`);
    if (mark?.kind !== 'undoable') {
      present?.remove();
      return;
    }
    const button = present ?? host.appendChild(document.createElement('button'));
    const { cells } = mark;
    const label =
      cells === 1
        ? this.trans.__('Undo cell [%1]', number)
        : this.trans.__('Undo cell [%1] and what ran after it: %2 cells', number, cells);
    button.className = MARK;
    button.type = 'button';
    button.textContent = cells === 1 ? '↶' : `↶${cells}`;
    button.title = label;
    button.setAttribute('aria-label', label);
    button.onclick = () => this.undo(panel, number, cells);
  }

  private due = false;
  private readonly seen = new WeakMap<ICodeCellModel, number | null>();
}
