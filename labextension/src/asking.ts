/** Asking a kernel to do something for its user, beside the cells of the notebook. */

import { Kernel, KernelMessage } from '@jupyterlab/services';
import { TranslationBundle } from '@jupyterlab/translation';

/** The kernel said no; `message` can be shown. */
export class KernelRefusal extends Error {
  constructor(
    readonly kind: string,
    message: string
  ) {
    super(message);
  }
}

/** The line that saves a kernel under a name. */
export function saving(name: string, options = ''): string {
  return `%load_ext zerostart\n%zs_snapshot save ${name} ${options}`.trimEnd();
}

/**
 * Run a line in a kernel; resolves to what it shows, rejects with a `KernelRefusal`.
 *
 * Only with `history` it takes a prompt number, as a cell does.
 */
export async function ask(
  kernel: Kernel.IKernelConnection,
  code: string,
  trans: TranslationBundle,
  { history = false }: { history?: boolean } = {}
): Promise<string> {
  const { language_info } = await kernel.info;
  if (language_info.name !== 'python') {
    throw new KernelRefusal('', trans.__('This kernel runs %1; zerostart works in Python kernels.', language_info.name));
  }
  let shown = '';
  const future = kernel.requestExecute({ code, store_history: history, allow_stdin: false });
  future.onIOPub = message => {
    if (KernelMessage.isExecuteResultMsg(message)) {
      shown = String(message.content.data['text/plain'] ?? '');
    }
  };
  const { content } = await future.done;
  if (content.status === 'ok') {
    return shown;
  }
  const { ename = '', evalue = '' } = content as { ename?: string; evalue?: string };
  const absent = ename === 'ModuleNotFoundError' && /'zerostart(_jupyter)?'/.test(evalue);
  throw new KernelRefusal(
    ename,
    absent
      ? trans.__('The Python of this kernel has no zerostart. Install zerostart-jupyter in it.')
      : evalue || trans.__('The kernel did not run it.')
  );
}
