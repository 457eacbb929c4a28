/** Outputs of our own kinds in notebooks. */

import { INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';
import { IRenderMime } from '@jupyterlab/rendermime-interfaces';

/** Renders a kind of output in all notebooks; each has renderers of its own, which know its panel. */
export function renderInNotebooks(
  notebooks: INotebookTracker,
  kind: string,
  create: (panel: NotebookPanel) => IRenderMime.IRenderer
): void {
  const teach = (panel: NotebookPanel) =>
    panel.content.rendermime.addFactory(
      {
        safe: false, // what an untrusted file says is not offered
        mimeTypes: [kind],
        createRenderer: () => create(panel)
      },
      0
    );
  notebooks.forEach(teach);
  notebooks.widgetAdded.connect((_, panel) => teach(panel));
}
