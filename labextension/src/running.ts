/** What is under way and what is kept, among JupyterLab's running things. */

import { IRunningSessionManagers, IRunningSessions } from '@jupyterlab/running';
import { TranslationBundle } from '@jupyterlab/translation';
import { Signal } from '@lumino/signaling';

import { Actions } from './actions';
import { ISnapshot } from './api';
import { boltIcon } from './icons';
import { baseName } from './kernels';
import { Live } from './live';
import { canBeCancelled } from './model';
import { agoText, headline, progressText, sizeText } from './wording';

const SHOWN = 20; // snapshots, the newest; the panel has all

interface IRunning {
  managers: IRunningSessionManagers;
  live: Live;
  actions: Actions;
  documents: () => Map<string, string>;
  show: () => void;
  trans: TranslationBundle;
}

/** "Shut down all" means here: cancel what is under way. It deletes no snapshot, ends no kernel. */
export function addRunning({ managers, live, actions, documents, show, trans }: IRunning): void {
  const changed = new Signal<object, void>({});
  live.changed.connect(() => changed.emit());

  const running = (): IRunningSessions.IRunningItem[] => [
    ...live.operations.running.map(each => ({
      open: show,
      icon: () => boltIcon,
      label: () => headline(each.operation, trans),
      labelTitle: () => documents().get(each.kernel) ?? '',
      detail: () => progressText(each.operation, trans),
      ...(canBeCancelled(each.operation) && { shutdown: () => void actions.cancel(each) })
    })),
    ...newest(live.snapshots ?? []).map(({ name, bytes, created, notebook }) => ({
      open: show,
      icon: () => boltIcon,
      label: () => trans.__('Snapshot %1', name),
      labelTitle: () => (notebook ? baseName(notebook) : ''),
      detail: () => `${sizeText(bytes)} · ${agoText(created, Date.now() / 1000, trans)}`
    }))
  ];

  managers.add({
    name: trans.__('zerostart'),
    supportsMultipleViews: false,
    running,
    refreshRunning: () => void live.look().catch(() => undefined),
    runningChanged: changed,
    shutdownAll: () => live.operations.running.forEach(each => void actions.cancel(each)),
    shutdownLabel: trans.__('Cancel'),
    shutdownAllLabel: trans.__('Cancel All Operations'),
    shutdownAllConfirmationText: trans.__(
      'Cancel all installs, loads and saves that are under way? Kernels go on, and all snapshots stay.'
    )
  });
}

function newest(snapshots: readonly ISnapshot[]): ISnapshot[] {
  return [...snapshots].sort((a, b) => b.created - a.created).slice(0, SHOWN);
}
