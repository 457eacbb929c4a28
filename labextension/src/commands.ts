/** The panel's actions as commands, for the palette and for whoever binds a key to them. */

import { JupyterFrontEnd } from '@jupyterlab/application';
import { Dialog, ICommandPalette, InputDialog, Notification, showDialog } from '@jupyterlab/apputils';
import { TranslationBundle } from '@jupyterlab/translation';

import { Actions } from './actions';
import { Api, ISnapshot } from './api';
import { doctorBody } from './doctor';
import { Live } from './live';

export namespace CommandIDs {
  export const show = 'zerostart:show-panel';
  export const refresh = 'zerostart:refresh';
  export const doctor = 'zerostart:doctor';
  export const restore = 'zerostart:restore';
  export const open = 'zerostart:open-as-new-kernel';
  export const rename = 'zerostart:rename';
  export const remove = 'zerostart:delete';
}

interface ICommands {
  app: JupyterFrontEnd;
  palette: ICommandPalette | null;
  panel: string;
  api: Api;
  live: Live;
  actions: Actions;
  trans: TranslationBundle;
}

export function addCommands(given: ICommands): void {
  const { app, palette, panel, api, live, actions, trans } = given;
  const { commands } = app;
  const category = trans.__('zerostart');

  const add = (id: string, label: string, execute: (args: { name?: string }) => unknown) => {
    commands.addCommand(id, { label, execute: args => execute(args as { name?: string }) });
    palette?.addItem({ command: id, category });
  };

  /** A command for one snapshot: the one that is named, or else the one that the user chooses. */
  const addForSnapshot = (id: string, label: string, execute: (of: ISnapshot) => Promise<void>) =>
    add(id, label, async ({ name }) => {
      await live.lookAtSnapshots();
      const chosen = name ?? (await choose(live.snapshots ?? [], label, trans));
      const snapshot = live.snapshots?.find(each => each.name === chosen);
      if (snapshot) {
        await execute(snapshot);
      }
    });

  add(CommandIDs.show, trans.__('Show Activity and Snapshots'), () => app.shell.activateById(panel));
  add(CommandIDs.refresh, trans.__('Refresh Activity and Snapshots'), () => live.look());
  add(CommandIDs.doctor, trans.__('What Works Here'), async () => {
    await showDialog({
      title: trans.__('What works here'),
      body: doctorBody(await api.doctor(), trans),
      buttons: [Dialog.okButton({ label: trans.__('Close') })]
    });
  });
  addForSnapshot(CommandIDs.restore, trans.__('Restore Snapshot…'), each => actions.restore(each));
  addForSnapshot(CommandIDs.open, trans.__('Open Snapshot as New Kernel…'), each =>
    actions.open(each)
  );
  addForSnapshot(CommandIDs.rename, trans.__('Rename Snapshot…'), each => actions.rename(each));
  addForSnapshot(CommandIDs.remove, trans.__('Delete Snapshot…'), each => actions.delete(each));
}

async function choose(
  snapshots: readonly ISnapshot[],
  title: string,
  trans: TranslationBundle
): Promise<string | null> {
  if (snapshots.length === 0) {
    Notification.info(trans.__('No snapshots yet. Save one in a cell: %zs_snapshot save NAME'));
    return null;
  }
  const newest = [...snapshots].sort((a, b) => b.created - a.created);
  const answer = await InputDialog.getItem({ title, items: newest.map(each => each.name) });
  return answer.button.accept ? answer.value : null;
}
