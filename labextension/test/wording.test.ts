import { describe, expect, it } from 'vitest';

import { IOperation, isFinal } from '../src/model';
import {
  aboutText,
  agoText,
  headline,
  newsText,
  progressText,
  rateText,
  resultText,
  secondsText,
  sizeText,
  valueText
} from '../src/wording';

const trans = {
  __: (text: string, ...values: (string | number)[]) =>
    values.reduce<string>((said, value, index) => said.replace(`%${index + 1}`, `${value}`), text)
};

const operation: IOperation = {
  id: 'install-1',
  kind: 'install',
  title: 'torch',
  state: 'running',
  started: 100,
  updated: 110,
  done: 2 ** 30,
  total: 2 ** 31,
  unit: 'bytes',
  error: null,
  items: []
};

const plain = (text: string) => text.replace(/\u00a0/g, ' ');

const item = { state: 'running', done: 0, total: null, unit: 'bytes', error: null } as const;

describe('amounts', () => {
  it.each([
    [0, '0 B'],
    [1023, '1023 B'],
    [2048, '2 KiB'],
    [3.2 * 2 ** 20, '3.2 MiB'],
    [1.41 * 2 ** 30, '1.41 GiB']
  ])('%d bytes are %s', (bytes, text) => expect(sizeText(bytes)).toBe(text));

  it.each([
    [12.3e6, '12.3 MB/s'],
    [1.6e9, '1.60 GB/s']
  ])('%d bytes a second are %s', (bytes, text) => expect(rateText(bytes)).toBe(text));

  it.each([
    [0.04, '0.04 s'],
    [3.2, '3.2 s'],
    [125, '2 min 5 s']
  ])('%d seconds are %s', (seconds, text) => expect(secondsText(seconds)).toBe(text));

  it.each([
    [0.01, '0.1 s'],
    [0.47, '0.5 s'],
    [3.4, '3 s'],
    [125.3, '2 min 5 s']
  ])('a guess of %d seconds is %s', (seconds, text) => expect(aboutText(seconds)).toBe(text));

  it.each([
    [-5, 'just now'],
    [20, 'just now'],
    [150, '3 min ago'],
    [7200, '2 h ago'],
    [200_000, '2 d ago']
  ])('%d seconds before are %s', (before, text) =>
    expect(agoText(1e9 - before, 1e9, trans)).toBe(text)
  );
});

describe('an operation', () => {
  it('says how far it is', () => {
    expect(headline(operation, trans)).toBe('Installing torch');
    expect(plain(progressText(operation, trans))).toBe(
      '1.00 GiB of 2.00 GiB · 107.4 MB/s · 10.0 s left'
    );
  });

  it('counts its items and names the one at work', () => {
    const items = [
      { ...item, name: 'numpy', state: 'done' },
      { ...item, name: 'torch' }
    ] as const;
    const busy = { ...operation, total: null, items };
    expect(plain(progressText(busy, trans))).toBe('1.00 GiB · 107.4 MB/s · 1 of 2 items');
    expect(plain(valueText(busy, trans))).toBe('1.00 GiB · 107.4 MB/s · 1 of 2 items, torch');
  });

  it('keeps numbers with their units', () => {
    expect(progressText(operation, trans).split(' ')).toHaveLength(5);
  });

  it('that nothing is heard of has no rate and no time left', () => {
    expect(plain(progressText(operation, trans, 40))).toBe(
      '1.00 GiB of 2.00 GiB · no news for 40 s'
    );
  });

  it('counts what is not bytes', () => {
    const steps = { ...operation, unit: 'steps', done: 2, total: 5, updated: 100 };
    expect(plain(progressText(steps, trans))).toBe('2 of 5');
  });

  it('says nothing before there is anything to say', () => {
    const waiting = { ...operation, done: 0, total: null, updated: 100 };
    expect(progressText(waiting, trans)).toBe('');
  });

  it.each([
    ['done', null, 'Installed torch', '1.00 GiB in 10.0 s'],
    ['failed', 'No space left.', 'Could not install torch', 'No space left.'],
    ['cancelled', 'cancelled', 'Installing torch', 'Cancelled after 10.0 s']
  ] as const)('that is %s says so', (state, error, head, result) => {
    const ended = { ...operation, state, error };
    expect(headline(ended, trans)).toBe(head);
    expect(resultText(ended, trans)).toBe(result);
  });

  it('is news when it begins and when it ends, and not in between', () => {
    const news = (...all: IOperation[]) => {
      const [ended, running] = [true, false].map(over =>
        all.filter(each => isFinal(each.state) === over).map(each => ({ kernel: 'k', operation: each }))
      );
      return newsText(running, ended, trans);
    };
    const second = { ...operation, id: 'load-2', kind: 'load', title: 'model', started: 105 };
    expect(news()).toBe('');
    expect(news(operation)).toBe('Installing torch');
    expect(news({ ...operation, done: 3, updated: 200 })).toBe('Installing torch');
    expect(news(operation, second)).toBe('Loading model');
    const failed = { ...operation, state: 'failed', error: 'No space left.', updated: 107 } as const;
    expect(news(failed, second)).toBe('Could not install torch. No space left.');
    expect(news(failed, { ...second, done: 5, updated: 300 })).toBe(
      'Could not install torch. No space left.'
    );
  });

  it.each([
    ['plan', 'Planning torch', 'Planned torch', 'Could not plan torch'],
    ['import', 'Importing torch', 'Imported torch', 'Could not import torch'],
    ['verify', 'Verifying torch', 'Verified torch', 'Could not verify torch'],
    ['export', 'Exporting torch', 'Exported torch', 'Could not export torch'],
    ['park', 'Parking GPU memory', 'Parked GPU memory', 'Could not park GPU memory'],
    ['wake', 'Waking GPU memory', 'Woke GPU memory', 'Could not wake GPU memory']
  ])('of the kind %s says what is done', (kind, ...expected) => {
    const states = ['running', 'done', 'failed'] as const;
    expect(states.map(state => headline({ ...operation, kind, state }, trans))).toEqual(expected);
  });

  it('of an unknown kind is named by it', () => {
    expect(headline({ ...operation, kind: 'dream' }, trans)).toBe('dream torch');
    expect(headline({ ...operation, kind: 'dream' }, { __: () => 'translated' })).toBe('translated');
  });
});
