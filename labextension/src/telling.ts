/** How work that a person began is told: its beginning, its end and its failure. */

import { Notification } from '@jupyterlab/apputils';

/** Do something whose failure is told. */
export async function attempt<T>(work: () => Promise<T>): Promise<void> {
  try {
    await work();
  } catch (error) {
    Notification.error(messageOf(error), { autoClose: false });
  }
}

/** Do something that takes a while: its beginning, its end and its failure are told. */
export async function told(beginning: string, work: () => Promise<string>): Promise<boolean> {
  const result = work();
  Notification.promise(result, {
    pending: { message: `${beginning} …`, options: { autoClose: false } },
    success: { message: text => text as string, options: { autoClose: 5000 } },
    error: { message: messageOf, options: { autoClose: false } }
  });
  return result.then(
    () => true,
    () => false
  );
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
