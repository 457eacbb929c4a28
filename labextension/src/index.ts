import { ILayoutRestorer, JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette, ISessionContext } from '@jupyterlab/apputils';
import { INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';
import { IRunningSessionManagers } from '@jupyterlab/running';
import { Event } from '@jupyterlab/services';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';

import { Actions, ITarget } from './actions';
import { Api, IRestored } from './api';
import { addCommands, addKernelCommands } from './commands';
import { KernelActions } from './kernelactions';
import { Renewal, documents } from './kernels';
import { Live } from './live';
import { Markers } from './markers';
import { offerMissingImports } from './missing';
import { Panel } from './panel';
import { showProgressInCells } from './progress';
import { addRunning } from './running';

const RESTORED = 'urn:zerostart:restored';

const plugin: JupyterFrontEndPlugin<void> = {
  id: 'zerostart-jupyter:panel',
  description: 'Activity of installs, loads and snapshots; GPU memory; snapshots to go back to.',
  autoStart: true,
  requires: [INotebookTracker],
  optional: [ILayoutRestorer, ICommandPalette, ITranslator, IRunningSessionManagers],
  activate
};

function activate(
  app: JupyterFrontEnd,
  notebooks: INotebookTracker,
  restorer: ILayoutRestorer | null,
  palette: ICommandPalette | null,
  translator: ITranslator | null,
  managers: IRunningSessionManagers | null
): void {
  const trans = (translator ?? nullTranslator).load('zerostart_jupyter');
  const { serviceManager, shell } = app;
  const api = new Api(serviceManager.serverSettings);
  const live = new Live(api, serviceManager.events.stream);
  const renewal = new Renewal(app);

  const target = (): ITarget | null => {
    const candidates = [shell.currentWidget, notebooks.currentWidget];
    for (const widget of candidates as { sessionContext?: ISessionContext }[]) {
      const kernel = widget?.sessionContext?.session?.kernel;
      if (kernel) {
        return { kernel, path: widget.sessionContext!.path };
      }
    }
    return null;
  };
  const actions = new Actions(app, api, live, renewal, trans, target);

  const paths = () => documents(serviceManager);
  const panel = new Panel(live, actions, paths, serviceManager.kernels, trans);
  shell.add(panel, 'left', { rank: 700, type: 'zerostart' });
  restorer?.add(panel, panel.id);
  addCommands({ app, palette, panel: panel.id, live, actions, trans });

  const kernelActions = new KernelActions(api, live, trans, target);
  addKernelCommands(app, palette, live, kernelActions, trans);
  const undo = (notebook: NotebookPanel, before: number, cells: number) => {
    shell.activateById(notebook.id);
    void kernelActions.undo(before, cells);
  };
  offerMissingImports(notebooks, trans);
  showProgressInCells(notebooks, live, actions, trans);
  if (managers !== null) {
    const show = () => shell.activateById(panel.id);
    addRunning({ managers, live, actions, documents: paths, show, trans });
  }
  new Markers(notebooks, live, undo, trans);
  void live.lookAtActivity().catch(() => undefined); // what can be undone shows while the panel does not

  // Which documents and kernels there are, and which is the current one, shows in the panel.
  shell.currentChanged?.connect(() => panel.update());
  notebooks.currentChanged.connect(() => panel.update());
  serviceManager.sessions.runningChanged.connect(() => panel.update());
  serviceManager.kernels.runningChanged.connect(() => panel.update());

  serviceManager.events.stream.connect((_: unknown, emission: Event.Emission) => {
    if (emission.schema_id === RESTORED) {
      const { id, kernel } = emission as unknown as IRestored;
      void renewal.once(id, kernel);
    }
  });
}

export default plugin;
