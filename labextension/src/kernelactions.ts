/** What a person can have the current kernel do: undo, save, park. */

import { Dialog, InputDialog, Notification, showDialog } from '@jupyterlab/apputils';
import { PathExt } from '@jupyterlab/coreutils';
import { TranslationBundle } from '@jupyterlab/translation';

import { ITarget } from './actions';
import { Api } from './api';
import { ask, saving } from './asking';
import { baseName } from './kernels';
import { Live } from './live';
import { advise, attempt, told } from './telling';

const NAME = '[A-Za-z0-9][A-Za-z0-9._\\-]{0,63}'; // as the catalog of snapshots wants it

export class KernelActions {
  constructor(
    private readonly api: Api,
    private readonly live: Live,
    private readonly trans: TranslationBundle,
    readonly target: () => ITarget | null
  ) {}

  /** Whether the current kernel keeps undo points. */
  get keepsPoints(): boolean {
    const target = this.target();
    return target !== null && this.live.undo(target.kernel.id)?.on === true;
  }

  /** Go back to before the last cell, or to before the cell of this number. */
  async undo(before?: number, cells = 1): Promise<void> {
    const { trans } = this;
    const target = this.target();
    if (target === null) {
      return this.needsKernel();
    }
    if (!this.keepsPoints) {
      return this.offerPoints(target);
    }
    if (target.kernel.status === 'busy') {
      advise(trans.__('A cell is running. Interrupt it first, then undo it.'));
      return;
    }
    if (cells === 1 || (await this.agreesToUndo(before!, cells))) {
      const which = before === undefined ? '' : `before=${before}`;
      const code = `__import__('zerostart').undo(${which})`;
      await told(trans.__('Undoing'), () => ask(target.kernel, code, trans, { history: true }));
    }
  }

  /** Keep undo points in the current kernel from the next cell on, or no more. */
  async keepPoints(on: boolean): Promise<void> {
    const target = this.target();
    if (target === null) {
      return this.needsKernel();
    }
    const code = `%load_ext zerostart\n%zs_snapshot auto ${on ? 'on' : 'off'}`;
    await attempt(async () => {
      Notification.success(await ask(target.kernel, code, this.trans), { autoClose: 5000 });
    });
  }

  /** Save the current kernel under a name that is asked for. */
  async save(): Promise<void> {
    const { trans } = this;
    const target = this.target();
    if (target === null) {
      return this.needsKernel();
    }
    const answer = await InputDialog.getText({
      title: trans.__('Save a snapshot'),
      label: trans.__('The kernel of %1 goes on. Name of the snapshot', baseName(target.path)),
      text: nameFor(target.path),
      pattern: NAME,
      required: true,
      okLabel: trans.__('Save')
    });
    const name = answer.value;
    if (answer.button.accept && name) {
      await attempt(() => this.saveAs(target, name));
    }
  }

  /** Move what the current kernel holds in GPU memory to the host, or say why that is not so. */
  async park(): Promise<void> {
    const { trans } = this;
    const target = this.target();
    if (target === null) {
      return this.needsKernel();
    }
    await attempt(async () => {
      const { ok, reason, remedy } = await this.api.gpu();
      if (!ok) {
        Notification.warning(`${reason} ${remedy}`, { autoClose: false });
        return;
      }
      const code = '%load_ext zerostart\n%zs_snapshot park';
      await told(trans.__('Parking the GPU'), () => ask(target.kernel, code, trans));
    });
  }

  private async saveAs(target: ITarget, name: string): Promise<void> {
    const { trans } = this;
    const save = (options: string) => async () => {
      await ask(target.kernel, saving(name, options), trans);
      await this.live.lookAtSnapshots();
      return trans.__('Saved snapshot %1', name);
    };
    const taken = (await this.api.snapshots()).some(each => each.name === name);
    if (!taken) {
      await told(trans.__('Saving snapshot %1', name), save(''));
      return;
    }
    const agreed = await showDialog({
      title: trans.__('Replace %1?', name),
      body: trans.__('A snapshot of this name is there already. What it holds is discarded.'),
      buttons: [Dialog.cancelButton(), Dialog.warnButton({ label: trans.__('Replace') })]
    });
    if (agreed.button.accept) {
      await told(trans.__('Saving snapshot %1', name), save('--replace'));
    }
  }

  private async offerPoints(target: ITarget): Promise<void> {
    const { trans } = this;
    const agreed = await showDialog({
      title: trans.__('Keep undo points?'),
      body: trans.__(
        'What ran so far in %1 cannot be undone. From now on its kernel can keep a frozen copy of itself before each cell; it shares the memory that the cell does not change. What cells do to files is not undone.',
        baseName(target.path)
      ),
      buttons: [Dialog.cancelButton(), Dialog.okButton({ label: trans.__('Keep undo points') })]
    });
    if (agreed.button.accept) {
      await this.keepPoints(true);
    }
  }

  private async agreesToUndo(before: number, cells: number): Promise<boolean> {
    const { trans } = this;
    const agreed = await showDialog({
      title: trans.__('Undo %1 cells?', cells),
      body: trans.__(
        'The kernel goes back to before cell [%1]. What that cell and those after it made is discarded; files that they wrote stay.',
        before
      ),
      buttons: [Dialog.cancelButton(), Dialog.warnButton({ label: trans.__('Undo') })]
    });
    return agreed.button.accept;
  }

  private needsKernel(): void {
    advise(this.trans.__('Open a notebook with a kernel first.'));
  }
}

/** A name that can be given to a snapshot of this document. */
function nameFor(path: string): string {
  const stem = PathExt.basename(path, PathExt.extname(path));
  return stem.replace(/[^A-Za-z0-9._-]+/g, '-').replace(/^[._-]+/, '').slice(0, 64) || 'ready';
}
