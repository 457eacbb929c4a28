/** The offer below a cell that failed to import something: *Install and re-run*. */

import { Dialog, showDialog } from '@jupyterlab/apputils';
import { CodeCell } from '@jupyterlab/cells';
import { INotebookTracker, NotebookActions, NotebookPanel } from '@jupyterlab/notebook';
import { IRenderMime } from '@jupyterlab/rendermime-interfaces';
import { TranslationBundle } from '@jupyterlab/translation';
import { Widget } from '@lumino/widgets';

import { ask } from './asking';
import { renderInNotebooks } from './renderers';
import { hasScript, scriptOf, withDependency } from './script';
import { advise, told } from './telling';

const MIME = 'application/vnd.zerostart.missing+json';
const NAME = /^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$/; // of a distribution, and nothing else

/** What `jupyter/missing.py` displays. */
interface IOffer {
  readonly module: string;
  readonly distribution: string;
  readonly known: boolean;
}

/** Renders the offer in all notebooks. */
export function offerMissingImports(notebooks: INotebookTracker, trans: TranslationBundle): void {
  renderInNotebooks(notebooks, MIME, panel => new Offer(panel, trans));
}

class Offer extends Widget implements IRenderMime.IRenderer {
  constructor(
    private readonly panel: NotebookPanel,
    private readonly trans: TranslationBundle
  ) {
    super();
    this.addClass('jp-Zerostart-offer');
  }

  async renderModel(model: IRenderMime.IMimeModel): Promise<void> {
    const { trans } = this;
    const offer = model.data[MIME] as unknown as IOffer;
    this.node.replaceChildren();
    const said = this.node.appendChild(document.createElement('p'));
    if (!NAME.test(offer?.distribution)) {
      said.textContent = String(model.data['text/plain'] ?? '');
      return;
    }
    said.textContent = offer.known
      ? trans.__('%1 is in the distribution %2.', offer.module, offer.distribution)
      : trans.__(
          'No distribution is known to have %1. By its name it could be %2, which is a guess.',
          offer.module,
          offer.distribution
        );
    const button = this.node.appendChild(document.createElement('button'));
    button.className = offer.known ? 'jp-mod-styled jp-mod-accept' : 'jp-mod-styled';
    button.textContent = trans.__('Install %1 and re-run', offer.distribution);
    const label = this.node.appendChild(document.createElement('label'));
    const list = label.appendChild(document.createElement('input'));
    list.type = 'checkbox';
    label.append(trans.__("Add it to the notebook's dependencies"));
    button.onclick = () => void this.accept(offer, list.checked, button);
  }

  private async accept(offer: IOffer, list: boolean, button: HTMLButtonElement): Promise<void> {
    const { trans, panel } = this;
    const kernel = panel.sessionContext.session?.kernel;
    if (!kernel) {
      advise(trans.__('Start a kernel first.'));
      return;
    }
    if (!offer.known && !(await this.agreesToGuess(offer))) {
      return;
    }
    button.disabled = true;
    const name = offer.distribution;
    const installed = await told(trans.__('Installing %1', name), async () => {
      await ask(kernel, `%load_ext zerostart\n%zs_install ${name}`, trans);
      return trans.__('%1 is on its way', name);
    });
    if (!installed || this.isDisposed) {
      button.disabled = false;
      return;
    }
    const cell = panel.content.widgets.find(each => each.node.contains(this.node));
    if (list) {
      this.list(name);
    }
    if (cell instanceof CodeCell) {
      await NotebookActions.runCells(panel.content, [cell], panel.sessionContext);
    }
  }

  /** A name that somebody made up may be anybody's: say so before anything of it is run. */
  private async agreesToGuess({ module, distribution }: IOffer): Promise<boolean> {
    const { trans } = this;
    const agreed = await showDialog({
      title: trans.__('Install %1?', distribution),
      body: trans.__(
        'This name is a guess from “import %1”. Whoever registered it at the package index may have something else in it, even something harmful. Look at its page there first.',
        module
      ),
      buttons: [
        Dialog.cancelButton(),
        Dialog.warnButton({ label: trans.__('Install %1', distribution) })
      ],
      defaultButton: 0
    });
    return agreed.button.accept;
  }

  /** Write it into the notebook's PEP 723 cell, or into a new one at the top. */
  private list(distribution: string): void {
    const { sharedModel } = this.panel.content.model!;
    const cell = sharedModel.cells.find(
      each => each.cell_type === 'code' && hasScript(each.getSource())
    );
    if (cell) {
      cell.setSource(withDependency(cell.getSource(), distribution));
    } else {
      const source = scriptOf(distribution);
      sharedModel.insertCell(0, { cell_type: 'code', source, metadata: { trusted: true } });
    }
  }
}
