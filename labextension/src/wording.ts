/**
 * The words for what is shown; sizes, rates and times as `zerostart_jupyter/core/wording.py` says
 * them. Pure; the translation is given.
 */

import { IOperation, IShown, current, elapsed, isFinal, rate, secondsLeft } from './model';

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

/** Seconds that are a guess: 0.5 s, 3 s, 2 min 5 s. */
export function aboutText(seconds: number): string {
  const guess = seconds < 1 ? Math.max(0.1, seconds).toFixed(1) : Math.round(seconds);
  return seconds < 60 ? `${guess} s` : secondsText(seconds);
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

/** The headline of an operation: what it does, did or could not do, and with what. */
export function headline(operation: IOperation, trans: ITranslation): string {
  const { kind, title, state } = operation;
  const said = (doing: string, did: string, failed: string) =>
    state === 'done' ? did : state === 'failed' ? failed : doing;
  switch (kind) {
    case 'install':
      return said(
        trans.__('Installing %1', title),
        trans.__('Installed %1', title),
        trans.__('Could not install %1', title)
      );
    case 'load':
      return said(
        trans.__('Loading %1', title),
        trans.__('Loaded %1', title),
        trans.__('Could not load %1', title)
      );
    case 'snapshot':
      return said(
        trans.__('Saving snapshot %1', title),
        trans.__('Saved snapshot %1', title),
        trans.__('Could not save snapshot %1', title)
      );
    case 'restore':
      return said(
        trans.__('Restoring %1', title),
        trans.__('Restored %1', title),
        trans.__('Could not restore %1', title)
      );
    case 'import':
      return said(
        trans.__('Importing %1', title),
        trans.__('Imported %1', title),
        trans.__('Could not import %1', title)
      );
    case 'verify':
      return said(
        trans.__('Verifying %1', title),
        trans.__('Verified %1', title),
        trans.__('Could not verify %1', title)
      );
    case 'export':
      return said(
        trans.__('Exporting %1', title),
        trans.__('Exported %1', title),
        trans.__('Could not export %1', title)
      );
    case 'plan':
      return said(
        trans.__('Planning %1', title),
        trans.__('Planned %1', title),
        trans.__('Could not plan %1', title)
      );
    case 'park': // its title and that of a wake are always the same words, which are no name
      return said(
        trans.__('Parking GPU memory'),
        trans.__('Parked GPU memory'),
        trans.__('Could not park GPU memory')
      );
    case 'wake':
      return said(
        trans.__('Waking GPU memory'),
        trans.__('Woke GPU memory'),
        trans.__('Could not wake GPU memory')
      );
    case 'setup':
      return said(
        trans.__('Setting up %1', title),
        trans.__('Set up %1', title),
        trans.__('Could not set up %1', title)
      );
    default:
      return trans.__('%1 %2', kind, title);
  }
}

/**
 * How far a running operation is: amount, rate, time left, as far as they are known.
 *
 * Where nothing was heard of it for so many seconds, a rate and a time left would be made up.
 */
export function progressText(operation: IOperation, trans: ITranslation, quiet = 0): string {
  const parts: string[] = [];
  const { done, total, unit, items } = operation;
  if (unit === 'bytes') {
    if (done > 0) {
      parts.push(
        total === null ? sizeText(done) : trans.__('%1 of %2', sizeText(done), sizeText(total))
      );
      if (quiet === 0) {
        parts.push(rateText(rate(operation)));
      }
    }
  } else if (total !== null) {
    parts.push(trans.__('%1 of %2', done, total));
  }
  const left = secondsLeft(operation);
  if (quiet > 0) {
    parts.push(trans.__('no news for %1', aboutText(quiet)));
  } else if (left !== null) {
    parts.push(trans.__('%1 left', secondsText(left)));
  }
  if (items.length > 1) {
    const ended = items.filter(item => item.state === 'done').length;
    parts.push(trans.__('%1 of %2 items', ended, items.length));
  }
  return parts.map(unbroken).join(' · ');
}

/** The same with spaces that do not end a line: a number stays with its unit. */
export function unbroken(part: string): string {
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

/** The latest thing that began or ended, in a sentence: not every number on the way. */
export function newsText(
  running: readonly IShown[],
  ended: readonly IShown[],
  trans: ITranslation
): string {
  const began = running.map(({ operation }) => ({ operation, at: operation.started }));
  const ends = ended.map(({ operation }) => ({ operation, at: operation.updated }));
  const latest = [...ends, ...began].sort((a, b) => b.at - a.at)[0]?.operation;
  if (latest === undefined) {
    return '';
  }
  const head = headline(latest, trans);
  return isFinal(latest.state) ? `${head}. ${resultText(latest, trans)}` : head;
}

/** What a screen reader is told of a bar. */
export function valueText(operation: IOperation, trans: ITranslation): string {
  const item = current(operation);
  return [progressText(operation, trans), item].filter(Boolean).join(', ');
}
