/** Progress in a cell: as the panel has it, past a busy kernel, and with a button that ends the work. */

import { ReactWidget } from '@jupyterlab/apputils';
import { INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';
import { IRenderMime } from '@jupyterlab/rendermime-interfaces';
import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { Actions } from './actions';
import { Live } from './live';
import { IShown, canBeCancelled, current } from './model';
import { Bar } from './parts';
import { renderInNotebooks } from './renderers';
import { headline, progressText, valueText } from './wording';

const MIME = 'application/vnd.zerostart.operation+json';

/** What the cell says of an operation that runs. */
interface ISaid {
  readonly operation: string;
  readonly title: string;
  readonly done: number;
  readonly total: number | null;
  readonly text: string;
}

/** Shows the operations that cells of notebooks speak of (`jupyter/outputs.py`). */
export function showProgressInCells(
  notebooks: INotebookTracker,
  live: Live,
  actions: Actions,
  trans: TranslationBundle
): void {
  renderInNotebooks(notebooks, MIME, panel => new Progress(panel, live, actions, trans));
}

class Progress extends ReactWidget implements IRenderMime.IRenderer {
  constructor(
    private readonly panel: NotebookPanel,
    private readonly live: Live,
    private readonly actions: Actions,
    private readonly trans: TranslationBundle
  ) {
    super();
    this.addClass('jp-Zerostart-progress');
    live.changed.connect(this.update, this);
  }

  async renderModel(model: IRenderMime.IMimeModel): Promise<void> {
    this.said = (model.data[MIME] as unknown as ISaid | undefined) ?? null;
    this.update();
  }

  protected override render(): JSX.Element | null {
    const { actions, said, trans } = this;
    if (said === null) {
      return null;
    }
    const shown = this.find(said);
    // Of a kernel that is gone, or where no server speaks of it, there is what the cell said.
    return shown === undefined ? (
      <>
        <Bar {...said} label={said.title} />
        <code>{said.text}</code>
      </>
    ) : (
      <Running shown={shown} cancel={() => void actions.cancel(shown)} trans={trans} />
    );
  }

  private find({ operation }: ISaid): IShown | undefined {
    const kernel = this.panel.sessionContext.session?.kernel?.id;
    const same = (each: IShown) => each.kernel === kernel && each.operation.id === operation;
    return this.live.operations.running.find(same);
  }

  private said: ISaid | null = null;
}

interface IRunning {
  shown: IShown;
  cancel: () => void;
  trans: TranslationBundle;
}

function Running({ shown, cancel, trans }: IRunning): JSX.Element {
  const { operation, quiet } = shown;
  const title = headline(operation, trans);
  const parts = [progressText(operation, trans, quiet), current(operation)].filter(Boolean);
  return (
    <>
      <span>{title}</span>
      <Bar {...operation} label={title} words={valueText(operation, trans)} />
      <span className="jp-Zerostart-detail">{parts.join(' · ') || trans.__('Beginning')}</span>
      {canBeCancelled(operation) && (
        <button
          className="jp-mod-styled"
          aria-label={trans.__('Cancel: %1', title)}
          onClick={cancel}
        >
          {trans.__('Cancel')}
        </button>
      )}
    </>
  );
}
