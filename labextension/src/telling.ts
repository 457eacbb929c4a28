/** How work that a person began is told: its beginning, its end and its failure. */

import { Notification } from '@jupyterlab/apputils';

const PROMPT = 300; // ms: of what ends sooner only the end is told
// ms: what becomes of a notification before JupyterLab has drawn it is lost, and it stays as it was.
const DRAWN = 1000;

/** Say what a person has to do first. By default a notification would only be counted. */
export function advise(text: string): void {
  Notification.warning(text, { autoClose: 5000 });
}

/** Do something whose failure is told. */
export async function attempt<T>(work: () => Promise<T>): Promise<void> {
  try {
    await work();
  } catch (error) {
    Notification.error(messageOf(error), { autoClose: false });
  }
}

/** Do something that may take a while: its beginning, its end and its failure are told. */
export async function told(beginning: string, work: () => Promise<string>): Promise<boolean> {
  const result = work();
  const ended = result.then(
    () => true,
    () => true
  );
  if (await Promise.race([ended, after(PROMPT).then(() => false)])) {
    return result.then(
      text => Boolean(Notification.success(text, { autoClose: 5000 })),
      error => !Notification.error(messageOf(error), { autoClose: false })
    );
  }
  const drawn = after(DRAWN);
  Notification.promise(
    result.finally(() => drawn),
    {
      pending: { message: `${beginning} …`, options: { autoClose: false } },
      success: { message: text => text as string, options: { autoClose: 5000 } },
      error: { message: messageOf, options: { autoClose: false } }
    }
  );
  return result.then(
    () => true,
    () => false
  );
}

function after(milliseconds: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, milliseconds));
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
