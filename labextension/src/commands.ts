/** The panel's actions as commands, for the palette and for whoever binds a key to them. */

import { JupyterFrontEnd } from '@jupyterlab/application';
import { ICommandPalette, InputDialog } from '@jupyterlab/apputils';
import { TranslationBundle } from '@jupyterlab/translation';
import { undoIcon } from '@jupyterlab/ui-components';

import { Actions } from './actions';
import { ISnapshot } from './api';
import { KernelActions } from './kernelactions';
import { Live } from './live';
import { advise, attempt } from './telling';

export namespace CommandIDs {
  export const show = 'zerostart:show-panel';
  export const refresh = 'zerostart:refresh';
  export const doctor = 'zerostart:doctor';
  export const restore = 'zerostart:restore';
  export const open = 'zerostart:open-as-new-kernel';
  export const rename = 'zerostart:rename';
  export const remove = 'zerostart:delete';
  export const undo = 'zerostart:undo-cell';
  export const points = 'zerostart:keep-undo-points';
  export const save = 'zerostart:save-snapshot';
  export const park = 'zerostart:park-gpu';
}

interface ICommands {
  app: JupyterFrontEnd;
  palette: ICommandPalette | null;
  panel: string;
  live: Live;
  actions: Actions;
  trans: TranslationBundle;
}

/** What the current kernel is asked to do: in the toolbar, the Kernel menu, the palette. */
export function addKernelCommands(
  app: JupyterFrontEnd,
  palette: ICommandPalette | null,
  live: Live,
  actions: KernelActions,
  trans: TranslationBundle
): void {
  const { commands } = app;
  commands.addCommand(CommandIDs.undo, {
    label: trans.__('Undo Cell'),
    caption: trans.__('Undo the last cell: the kernel goes back to before it ran'),
    icon: undoIcon,
    execute: () => actions.undo()
  });
  commands.addCommand(CommandIDs.points, {
    label: trans.__('Keep Undo Points'),
    caption: trans.__('Before each cell, keep a frozen copy of the kernel to go back to'),
    isToggleable: true,
    isToggled: () => actions.keepsPoints,
    execute: () => actions.keepPoints(!actions.keepsPoints)
  });
  commands.addCommand(CommandIDs.save, {
    label: trans.__('Save Snapshot…'),
    caption: trans.__('Save the kernel with all it holds; it goes on'),
    execute: () => actions.save()
  });
  commands.addCommand(CommandIDs.park, {
    label: trans.__('Park GPU'),
    caption: trans.__('Move what the kernel holds in GPU memory to the host'),
    execute: () => actions.park()
  });
  const all = [CommandIDs.undo, CommandIDs.points, CommandIDs.save, CommandIDs.park];
  all.forEach(command => palette?.addItem({ command, category: trans.__('zerostart') }));
  const renew = () => all.forEach(command => commands.notifyCommandChanged(command));
  app.shell.currentChanged?.connect(renew);
  let kept = false;
  live.changed.connect(() => {
    if (kept !== actions.keepsPoints) {
      kept = !kept;
      renew();
    }
  });
}

export function addCommands(given: ICommands): void {
  const { app, palette, panel, live, actions, trans } = given;
  const { commands } = app;
  const category = trans.__('zerostart');

  const add = (id: string, label: string, execute: (args: { name?: string }) => unknown) => {
    commands.addCommand(id, { label, execute: args => execute(args as { name?: string }) });
    palette?.addItem({ command: id, category });
  };

  /** A command for one snapshot: the one that is named, or else the one that the user chooses. */
  const addForSnapshot = (id: string, label: string, execute: (of: ISnapshot) => Promise<void>) =>
    add(id, label, ({ name }) =>
      attempt(async () => {
        await live.lookAtSnapshots();
        const chosen = name ?? (await choose(live.snapshots ?? [], label, trans));
        const snapshot = live.snapshots?.find(each => each.name === chosen);
        if (snapshot) {
          await execute(snapshot);
        }
      })
    );

  add(CommandIDs.show, trans.__('Show Activity and Snapshots'), () => app.shell.activateById(panel));
  add(CommandIDs.refresh, trans.__('Refresh Activity and Snapshots'), () =>
    Promise.all([live.look(), live.lookAtGpu()])
  );
  add(CommandIDs.doctor, trans.__('What Works Here'), () => actions.doctor());
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
    advise(trans.__('No snapshots yet. Save one in a cell: %zs_snapshot save NAME'));
    return null;
  }
  const newest = [...snapshots].sort((a, b) => b.created - a.created);
  const answer = await InputDialog.getItem({
    title,
    items: newest.map(each => each.name),
    okLabel: trans.__('Choose')
  });
  return answer.button.accept ? answer.value : null;
}
