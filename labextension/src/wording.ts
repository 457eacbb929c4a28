/**
 * The words for what is shown; sizes, rates and times as `zerostart_jupyter/core/wording.py` says
 * them. Pure; the translation is given.
 */

import { IOperation, current, elapsed, rate, secondsLeft } from './model';

/** What is needed of JupyterLab's `TranslationBundle`. */
export interface ITranslation {
  __(text: string, ...values: (string | number)[]): string;
}

const KIB = 2 ** 10;
const MIB = 2 ** 20;
const GIB = 2 ** 30;

/** Bytes in a unit a person reads: 512 B, 3.2 MiB, 1.41 GiB. */
export function sizeText(bytes: number): string {
  if (bytes < KIB) {
    return `${Math.round(bytes)} B`;
  }
  if (bytes < MIB) {
    return `${Math.round(bytes / KIB)} KiB`;
  }
  return bytes < GIB ? `${(bytes / MIB).toFixed(1)} MiB` : `${(bytes / GIB).toFixed(2)} GiB`;
}

/** Bytes a second: 12.3 MB/s, 1.60 GB/s. */
export function rateText(perSecond: number): string {
  return perSecond >= 1e9
    ? `${(perSecond / 1e9).toFixed(2)} GB/s`
    : `${(perSecond / 1e6).toFixed(1)} MB/s`;
}

/** Seconds as a person says them: 0.04 s, 3.2 s, 2 min 5 s. */
export function secondsText(seconds: number): string {
  if (seconds < 1) {
    return `${seconds.toFixed(2)} s`;
  }
  if (seconds < 60) {
    return `${seconds.toFixed(1)} s`;
  }
  return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
}

/** How long ago a time was, roughly. */
export function agoText(then: number, now: number, trans: ITranslation): string {
  const minutes = Math.max(0, Math.round((now - then) / 60));
  if (minutes < 1) {
    return trans.__('just now');
  }
  if (minutes < 60) {
    return trans.__('%1 min ago', minutes);
  }
  const hours = Math.round(minutes / 60);
  return hours < 24 ? trans.__('%1 h ago', hours) : trans.__('%1 d ago', Math.round(hours / 24));
}

/** The headline of an operation: what it does, did or failed to do, and with what. */
export function headline(operation: IOperation, trans: ITranslation): string {
  const { kind, title, state } = operation;
  const did = state === 'done';
  switch (kind) {
    case 'install':
      return did ? trans.__('Installed %1', title) : trans.__('Installing %1', title);
    case 'load':
      return did ? trans.__('Loaded %1', title) : trans.__('Loading %1', title);
    case 'snapshot':
      return did ? trans.__('Saved snapshot %1', title) : trans.__('Saving snapshot %1', title);
    case 'restore':
      return did ? trans.__('Restored %1', title) : trans.__('Restoring %1', title);
    case 'import':
      return did ? trans.__('Imported %1', title) : trans.__('Importing %1', title);
    case 'verify':
      return did ? trans.__('Verified %1', title) : trans.__('Verifying %1', title);
    case 'export':
      return did ? trans.__('Exported %1', title) : trans.__('Exporting %1', title);
    case 'setup':
      return did ? trans.__('Set up %1', title) : trans.__('Setting up %1', title);
    default:
      return `${kind} ${title}`;
  }
}

/** How far a running operation is: amount, rate, time left, as far as they are known. */
export function progressText(operation: IOperation, trans: ITranslation): string {
  const parts: string[] = [];
  const { done, total, unit, items } = operation;
  if (unit === 'bytes') {
    if (done > 0) {
      parts.push(
        total === null ? sizeText(done) : trans.__('%1 of %2', sizeText(done), sizeText(total))
      );
      parts.push(rateText(rate(operation)));
    }
  } else if (total !== null) {
    parts.push(trans.__('%1 of %2', done, total));
  }
  const left = secondsLeft(operation);
  if (left !== null) {
    parts.push(trans.__('%1 left', secondsText(left)));
  }
  if (items.length > 1) {
    const ended = items.filter(item => item.state === 'done').length;
    parts.push(trans.__('%1 of %2 items', ended, items.length));
  }
  return parts.map(unbroken).join(' · ');
}

/** The same with spaces that do not end a line: a number stays with its unit. */
function unbroken(part: string): string {
  return part.replace(/ /g, '\u00a0');
}

/** What came of an operation that ended. */
export function resultText(operation: IOperation, trans: ITranslation): string {
  if (operation.state === 'cancelled') {
    return trans.__('Cancelled after %1', secondsText(elapsed(operation)));
  }
  if (operation.state === 'failed') {
    return operation.error ?? trans.__('Failed');
  }
  const seconds = secondsText(elapsed(operation));
  return operation.unit === 'bytes' && operation.done > 0
    ? trans.__('%1 in %2', sizeText(operation.done), seconds)
    : trans.__('in %1', seconds);
}

/** What a screen reader is told of a bar. */
export function valueText(operation: IOperation, trans: ITranslation): string {
  const item = current(operation);
  return [progressText(operation, trans), item].filter(Boolean).join(', ');
}
