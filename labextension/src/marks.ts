/** Which mark a cell carries: it can be undone, it cannot, it was undone, or neither. Pure. */

import { Gap, IUndo, Ran } from './model';

/** A cell as the notebook has it; `ran` is the checksum of its text. */
export interface IRun {
  readonly number: number;
  readonly ran: number;
  /** True if this page saw it run: then its text may have changed since. */
  readonly seen: boolean;
}

export type Mark =
  /** Undoing this one undoes so many cells: itself and those that ran after it. */
  | { readonly kind: 'undoable'; readonly cells: number }
  /** Among cells that can be undone, or after them, one that cannot be gone back to. */
  | { readonly kind: 'gap'; readonly why: string }
  | { readonly kind: 'undone' };

/** The mark of a cell; null if it carries none, as one that is older than all undo points. */
export function markOf(cell: IRun, undo: IUndo): Mark | null {
  const is = ([number, ran]: Ran | Gap) =>
    number === cell.number && (cell.seen || ran === cell.ran);
  if (undo.cells.some(is)) {
    return { kind: 'undoable', cells: cellsFrom(cell.number, undo) };
  }
  if (undo.undone.some(is)) {
    return { kind: 'undone' };
  }
  const oldest = undo.cells[0]?.[0] ?? Infinity;
  const gap = undo.gaps.find(is);
  return gap && gap[0] > oldest ? { kind: 'gap', why: gap[2] } : null;
}

/** How many cells ran from this one on. */
export function cellsFrom(number: number, { cells, gaps }: IUndo): number {
  return [...cells, ...gaps].filter(([each]) => each >= number).length;
}

const TABLE = Array.from({ length: 256 }, (_, index) => {
  let value = index;
  for (let bit = 0; bit < 8; bit++) {
    value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  }
  return value;
});

/** The CRC-32 of a cell's text, as `zlib.crc32` computes it. */
export function checksum(source: string): number {
  let value = 0xffffffff;
  for (const byte of new TextEncoder().encode(source.replace(/\n+$/, ''))) {
    value = TABLE[(value ^ byte) & 0xff] ^ (value >>> 8);
  }
  return (value ^ 0xffffffff) >>> 0;
}
