import { describe, expect, it } from 'vitest';

import { cellsFrom, checksum, markOf } from '../src/marks';
import { IChange, IUndo, absorb, fromListing, undoOf } from '../src/model';

const undo: IUndo = {
  on: true,
  bytes: 0,
  cells: [
    [3, checksum('a = 1')],
    [6, checksum('b = 2')]
  ],
  gaps: [
    [1, checksum('z = 0'), 'only the last 2 are kept'],
    [4, checksum('import threading'), 'a thread runs'],
    [7, checksum('d = 4'), 'a GPU is in use']
  ],
  undone: [[2, checksum('c = 3')]]
};
const cell = (number: number, source: string, seen = false) => ({
  number,
  ran: checksum(source),
  seen
});

describe('checksums', () => {
  it.each([
    ['', 0],
    ['x = 3', 2840969306],
    ['größe = "日本"', 1032331287],
    ['x = 3\n\n', 2840969306]
  ])('of %j are those of zlib', (source, crc) => expect(checksum(source)).toBe(crc));
});

describe('a cell', () => {
  it('that can be undone says how many go with it', () => {
    expect(markOf(cell(6, 'b = 2'), undo)).toEqual({ kind: 'undoable', cells: 2 });
    expect(markOf(cell(3, 'a = 1\n'), undo)).toEqual({ kind: 'undoable', cells: 4 });
    expect(cellsFrom(4, undo)).toBe(3);
  });

  it('that was undone says so', () => {
    expect(markOf(cell(2, 'c = 3'), undo)).toEqual({ kind: 'undone' });
  });

  it('of an earlier kernel has a number of the same value, and no mark', () => {
    expect(markOf(cell(6, 'something else'), undo)).toBeNull();
    expect(markOf(cell(2, 'something else'), undo)).toBeNull();
  });

  it('that was run in this page may have changed since', () => {
    expect(markOf(cell(6, 'b = 2  # edited', true), undo)).toEqual({ kind: 'undoable', cells: 2 });
  });

  it('that has no point, among those that have one or after them, says why', () => {
    expect(markOf(cell(4, 'import threading'), undo)).toEqual({ kind: 'gap', why: 'a thread runs' });
    expect(markOf(cell(7, 'd = 4'), undo)).toEqual({ kind: 'gap', why: 'a GPU is in use' });
    expect(markOf(cell(4, 'another kernel ran this'), undo)).toBeNull();
  });

  it('that is older than all points has no mark', () => {
    expect(markOf(cell(1, 'z = 0'), undo)).toBeNull();
    expect(markOf(cell(7, 'd = 4'), { ...undo, cells: [] })).toBeNull();
  });
});

describe('sources', () => {
  const change = (more: Partial<IChange>): IChange => ({
    kernel: 'k',
    writer: 'kernel',
    events: [],
    gone: [],
    ...more
  });

  it('keep what can be undone until another word of it', () => {
    const told = absorb(new Map(), change({ undo }));
    expect(undoOf(told, 'k')).toEqual(undo);
    expect(undoOf(told, 'other')).toBeNull();
    expect(undoOf(absorb(told, change({})), 'k')).toEqual(undo);
    expect(absorb(told, change({ undo: null })).size).toBe(0);
  });

  it('are listed with it', () => {
    expect(undoOf(fromListing([{ kernel: 'k', writer: 'kernel', operations: [], undo }]), 'k')).toBe(undo);
  });
});
