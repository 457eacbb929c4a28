/** What a person can do with snapshots and operations; each asks first where something is lost. */

import { JupyterFrontEnd } from '@jupyterlab/application';
import { Dialog, InputDialog, showDialog } from '@jupyterlab/apputils';
import { Kernel } from '@jupyterlab/services';
import { TranslationBundle } from '@jupyterlab/translation';

import { Api, ISnapshot } from './api';
import { ask, saving } from './asking';
import { doctorBody } from './doctor';
import { Renewal, baseName } from './kernels';
import { Live } from './live';
import { IShown } from './model';
import { advise, attempt, messageOf, told } from './telling';
import { secondsText } from './wording';

/** Where a snapshot would be restored to: the document that was worked in last. */
export interface ITarget {
  readonly kernel: Kernel.IKernelConnection;
  readonly path: string;
}

export class Actions {
  constructor(
    private readonly app: JupyterFrontEnd,
    private readonly api: Api,
    private readonly live: Live,
    private readonly renewal: Renewal,
    private readonly trans: TranslationBundle,
    readonly target: () => ITarget | null
  ) {}

  /** Put the current document's kernel back into a snapshot's state, once the user agreed. */
  async restore(snapshot: ISnapshot): Promise<void> {
    const { trans } = this;
    const target = this.target();
    if (target === null) {
      advise(trans.__('Open a notebook with a kernel first: a snapshot goes there.'));
      return;
    }
    const idle = target.kernel.status === 'idle';
    const body = trans.__(
      'The kernel of %1 goes back to the moment of the snapshot. What it holds now (variables, imports, running cells) is discarded; the notebook itself stays as it is.',
      baseName(target.path)
    );
    const busy = trans.__('It is not idle, so its present state cannot be saved first.');
    const agreed = await showDialog({
      title: trans.__('Restore %1?', snapshot.name),
      body: idle ? body : `${body} ${busy}`,
      checkbox:
        idle
          ? { label: trans.__('Save the present state as a snapshot first'), checked: false }
          : null,
      buttons: [Dialog.cancelButton(), Dialog.warnButton({ label: trans.__('Restore') })]
    });
    if (agreed.button.accept) {
      await told(trans.__('Restoring %1', snapshot.name), async () => {
        if (agreed.isChecked) {
          await this.keep(target.kernel, snapshot.name);
        }
        const restored = await this.api.restore(target.kernel.id, snapshot.name);
        await this.renewal.once(restored.id, restored.kernel);
        return trans.__('Restored %1 in %2', snapshot.name, secondsText(restored.seconds));
      });
    }
  }

  /** Open a notebook with a kernel of its own that begins as the snapshot. */
  async open(snapshot: ISnapshot): Promise<void> {
    await told(this.trans.__('Starting a kernel from %1', snapshot.name), async () => {
      const kernelName = await this.api.publish(snapshot.name);
      await this.app.serviceManager.kernelspecs.refreshSpecs();
      await this.app.commands.execute('notebook:create-new', { kernelName });
      return this.trans.__('A new notebook begins where %1 was saved', snapshot.name);
    });
  }

  async rename(snapshot: ISnapshot): Promise<void> {
    const { trans } = this;
    const answer = await InputDialog.getText({
      title: trans.__('Rename %1', snapshot.name),
      label: trans.__('New name'),
      text: snapshot.name,
      okLabel: trans.__('Rename')
    });
    const name = answer.value?.trim();
    if (answer.button.accept && name && name !== snapshot.name) {
      await attempt(() => this.api.rename(snapshot.name, name));
      await this.live.lookAtSnapshots();
    }
  }

  async delete(snapshot: ISnapshot): Promise<void> {
    const { trans } = this;
    const agreed = await showDialog({
      title: trans.__('Delete %1?', snapshot.name),
      body: trans.__('A deleted snapshot cannot be brought back. Kernels that came from it go on.'),
      buttons: [Dialog.cancelButton(), Dialog.warnButton({ label: trans.__('Delete') })]
    });
    if (agreed.button.accept) {
      await attempt(() => this.api.delete(snapshot.name));
      await this.live.lookAtSnapshots();
    }
  }

  /** Show what works here, what does not, why, and the next step. */
  async doctor(): Promise<void> {
    const { trans } = this;
    await attempt(async () =>
      showDialog({
        title: trans.__('What works here'),
        body: doctorBody(await this.api.doctor(), trans),
        buttons: [Dialog.okButton({ label: trans.__('Close') })]
      })
    );
  }

  async cancel({ kernel, operation }: IShown): Promise<void> {
    await attempt(() => this.api.cancel(kernel, operation.id));
  }

  /** Have a kernel park its GPU memory, or wake it; it does so once it is idle. */
  async move(id: string, what: 'park' | 'wake'): Promise<void> {
    const { trans } = this;
    const kernel = this.app.serviceManager.kernels.connectTo({ model: { id, name: '' } });
    const beginning = what === 'park' ? trans.__('Parking the GPU') : trans.__('Waking the GPU');
    await told(beginning, () => ask(kernel, `%load_ext zerostart\n%zs_snapshot ${what}`, trans));
    kernel.dispose();
    await attempt(() => this.live.lookAtGpu());
  }

  /** Save what a kernel holds now, in the kernel, under a name that says what it is. */
  private async keep(kernel: Kernel.IKernelConnection, before: string): Promise<void> {
    const time = new Date().toISOString().replace(/\D/g, '').slice(0, 14);
    // A long name leaves room for the time: 64 characters are the most a name may have.
    const name = `before-${before.slice(0, 40)}-${time}`;
    try {
      await ask(kernel, saving(name), this.trans);
    } catch (error) {
      throw new Error(
        this.trans.__(
          'The present state could not be saved, so nothing was restored. %1',
          messageOf(error)
        )
      );
    }
  }
}
