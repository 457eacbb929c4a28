/** Which documents a kernel belongs to, and what they do when its process has been replaced. */

import { JupyterFrontEnd } from '@jupyterlab/application';
import { ISessionContext } from '@jupyterlab/apputils';
import { PathExt } from '@jupyterlab/coreutils';
import { Kernel, ServiceManager } from '@jupyterlab/services';

/** A document or console with a kernel, as JupyterLab's own widgets have one. */
interface IWithKernel {
  readonly sessionContext?: ISessionContext;
}

/** The running kernels' ids with the paths of the documents they work for. */
export function documents(manager: ServiceManager.IManager): Map<string, string> {
  const found = new Map<string, string>();
  for (const { kernel, path, name } of manager.sessions.running()) {
    if (kernel) {
      found.set(kernel.id, path || name);
    }
  }
  return found;
}

/** A document's name without its folders. */
export function baseName(path: string): string {
  return PathExt.basename(path);
}

/** Brings clients of restored kernels up to date, each restore once. */
export class Renewal {
  constructor(private readonly app: JupyterFrontEnd) {}

  /**
   * Connect everything anew that works with this kernel.
   *
   * A tab hears of its own restore twice: by the answer and by the event.
   */
  async once(restore: string, kernel: string): Promise<void> {
    if (!this.seen.has(restore)) {
      this.seen.add(restore);
      await Promise.all(this.connections(kernel).map(renew));
    }
  }

  private connections(id: string): Kernel.IKernelConnection[] {
    const found = new Set<Kernel.IKernelConnection>();
    for (const area of ['main', 'left', 'right', 'down'] as const) {
      for (const widget of this.app.shell.widgets(area)) {
        const kernel = (widget as IWithKernel).sessionContext?.session?.kernel;
        if (kernel?.id === id) {
          found.add(kernel);
        }
      }
    }
    return [...found];
  }

  private readonly seen = new Set<string>();
}

/**
 * Forget what the former process was asked, and connect to the new one.
 *
 * The server reads a kernel's ports only when a socket opens, and messages of another session are
 * dropped until the kernel has been asked for its info again; `reconnect` does both. A cell that
 * was running would stay so for ever: its future has no public way to be given up, short of
 * restarting the kernel.
 */
async function renew(kernel: Kernel.IKernelConnection): Promise<void> {
  const { _futures: waiting } = kernel as { _futures?: Map<string, { dispose(): void }> };
  for (const future of [...(waiting?.values() ?? [])]) {
    future.dispose();
  }
  await kernel.reconnect();
}
