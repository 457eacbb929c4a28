import { readFileSync } from 'node:fs';

import { describe, expect, it } from 'vitest';

import {
  IChange,
  IEvent,
  IListed,
  IOperation,
  Sources,
  absorb,
  canBeCancelled,
  current,
  fold,
  fromListing,
  rate,
  secondsLeft,
  shown
} from '../src/model';

interface ICase {
  name: string;
  events: IEvent[];
  expected: object[];
}

const corpus: ICase[] = JSON.parse(
  readFileSync(new URL('../../tests/corpus/activity.json', import.meta.url), 'utf8')
);

interface ISeveral {
  name: string;
  readings: IListed[][];
  heard: IChange[];
}

const several: ISeveral[] = JSON.parse(
  readFileSync(new URL('../../tests/corpus/sources.json', import.meta.url), 'utf8')
);

/** An operation as `OperationView.as_json` writes it. */
function asJson(operation: IOperation): object {
  return {
    ...operation,
    rate: rate(operation),
    seconds_left: secondsLeft(operation),
    current: current(operation)
  };
}

describe('canBeCancelled', () => {
  it.each([
    ['install', true],
    ['restore', true],
    ['park', false],
    ['wake', false]
  ])('%s: %s', (kind, expected) => {
    expect(canBeCancelled({ kind } as IOperation)).toBe(expected);
  });
});

describe('the fold', () => {
  it.each(corpus)('agrees with core/activity.py: $name', ({ events, expected }) => {
    const folded = fold(new Map(), events);
    expect([...folded.values()].map(asJson)).toEqual(expected);
  });

  it.each(corpus)('is the same in one go and event by event: $name', ({ events }) => {
    const stepwise = events.reduce((activity, event) => fold(activity, [event]), fold(new Map(), []));
    expect(stepwise).toEqual(fold(new Map(), events));
  });

  it('leaves the old activity alone', () => {
    const before = fold(new Map(), [event({ state: 'waiting' })]);
    fold(before, [event({ state: 'done' })]);
    expect(before.get('load-1')?.state).toBe('waiting');
  });
});

describe('several kernels', () => {
  /** Those that say anything, in any order. */
  const said = (sources: Sources) =>
    Object.fromEntries(
      [...sources].filter(([, { activity, undo }]) => activity.size > 0 || undo !== null)
    );

  it.each(several)('agree with what the server reads: $name', ({ readings, heard }) => {
    const before = fromListing(readings[0]);
    expect(said(heard.reduce(absorb, before))).toEqual(said(fromListing(readings.at(-1)!)));
  });

  it.each(several)('are not harmed by hearing it twice: $name', ({ readings, heard }) => {
    const after = heard.reduce(absorb, fromListing(readings[0]));
    const last = heard.slice(-1).filter(each => each.gone.length === 0);
    expect(said(last.reduce(absorb, after))).toEqual(said(after));
  });
});

describe('sources', () => {
  it('keeps kernels and writers apart, and forgets what is gone', () => {
    const a = change('a', 'kernel', [event({ state: 'running' })]);
    const b = change('b', 'kernel', [event({ state: 'done' })]);
    const c = change('a', 'dumper', [event({ operation: 'snapshot-1', state: 'running' })]);
    const all = [a, b, c].reduce(absorb, new Map());
    expect(all.size).toBe(3);
    const after = absorb(all, { ...change('a', 'kernel', []), gone: ['load-1'] });
    expect([...after.keys()]).toEqual(['b/kernel', 'a/dumper']);
    expect(all.size).toBe(3);
  });

  it('are not harmed by a change that a listing already knows', () => {
    const changes = [
      change('a', 'kernel', [event({ state: 'running', done: 1 })]),
      change('a', 'kernel', [event({ state: 'done', done: 2, time: 9 })])
    ];
    const folded = changes.reduce(absorb, new Map());
    const listing = [...folded.values()].map(({ kernel, writer, activity }) => ({
      kernel,
      writer,
      operations: [...activity.values()]
    }));
    expect(fromListing(listing)).toEqual(folded);
    expect(changes.reduce(absorb, fromListing(listing))).toEqual(folded);
  });

  it('show what runs, oldest first, then what ended, newest first', () => {
    const sources = absorb(
      new Map(),
      change('a', 'kernel', [
        event({ operation: 'late', state: 'running', time: 4 }),
        event({ operation: 'early', state: 'running', time: 2 }),
        event({ operation: 'old', state: 'done', time: 1 }),
        event({ operation: 'new', state: 'failed', time: 3 })
      ])
    );
    const { running, ended } = shown(sources);
    expect(running.map(each => each.operation.id)).toEqual(['early', 'late']);
    expect(ended.map(each => each.operation.id)).toEqual(['new', 'old']);
  });
});

function event(given: Partial<IEvent>): IEvent {
  return {
    operation: 'load-1',
    kind: 'load',
    title: 'model',
    item: '',
    state: 'running',
    done: 0,
    total: null,
    unit: 'bytes',
    time: 0,
    error: null,
    ...given
  };
}

function change(kernel: string, writer: string, events: IEvent[]): IChange {
  return { kernel, writer, events, gone: [] };
}
