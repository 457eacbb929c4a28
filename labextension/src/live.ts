/** What the panel shows, kept up to date: events first, and a look now and then. */

import { Event } from '@jupyterlab/services';
import { IDisposable } from '@lumino/disposable';
import { Poll } from '@lumino/polling';
import { ISignal, Signal } from '@lumino/signaling';

import { Api, ICapability, IGpu, ISnapshot } from './api';
import {
  IChange,
  IShown,
  IUndo,
  Sources,
  absorb,
  fromListing,
  isFinal,
  shown,
  undoOf
} from './model';

const ACTIVITY = 'urn:zerostart:activity';
const SNAPSHOTS = 'urn:zerostart:snapshots';
const SAVING = ['snapshot', 'import']; // kinds of operations after which there is another snapshot
const LOOK = 30_000; // ms between two looks at what events should have told, in case one was lost
const GPU_LOOK = 5_000; // ms between two looks at GPU memory, which no event tells
const QUIET = 15_000; // ms without a word of an operation, after which the panel says so

export class Live implements IDisposable {
  constructor(
    private readonly api: Api,
    private readonly events: Event.Stream
  ) {
    events.connect(this.hear, this);
    const standby = () => !this.watched || 'when-hidden';
    this.poll = new Poll({
      auto: false,
      name: 'zerostart:look',
      factory: () => this.look(),
      frequency: { interval: LOOK, backoff: true, max: 10 * LOOK },
      standby
    });
    this.gpuPoll = new Poll({
      auto: false,
      name: 'zerostart:gpu',
      factory: () => this.tick(),
      frequency: { interval: GPU_LOOK, backoff: true, max: 10 * GPU_LOOK },
      standby
    });
  }

  /** Null until the server has answered once. */
  snapshots: readonly ISnapshot[] | null = null;
  gpu: IGpu | null = null;

  /** What works here; asked for once, when there is nothing else to show. */
  doctor: readonly ICapability[] | null = null;

  /** Why the server gave no answer when it was asked last. */
  problem: Error | null = null;

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  get operations(): { running: IShown[]; ended: IShown[] } {
    const { running, ended } = shown(this.sources);
    const now = performance.now();
    const quiet = ({ kernel, operation }: IShown) => {
      const silence = now - (this.heard.get(`${kernel}/${operation.id}`)?.at ?? now);
      return silence < QUIET ? 0 : Math.floor(silence / 1000);
    };
    return { running: running.map(each => ({ ...each, quiet: quiet(each) })), ended };
  }

  /** What can be undone in a kernel; null while nothing is known of that. */
  undo(kernel: string): IUndo | null {
    return undoOf(this.sources, kernel);
  }

  /** Whether anybody looks; while nobody does, only events are followed. */
  get watched(): boolean {
    return this._watched;
  }
  set watched(value: boolean) {
    const begins = value && !this._watched;
    this._watched = value;
    if (begins) {
      void this.poll.refresh();
      void this.gpuPoll.refresh();
    }
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  dispose(): void {
    if (!this._isDisposed) {
      this._isDisposed = true;
      this.poll.dispose();
      this.gpuPoll.dispose();
      this.events.disconnect(this.hear, this);
      Signal.clearData(this);
    }
  }

  /** Ask for everything again. */
  async look(): Promise<void> {
    try {
      await Promise.all([this.lookAtActivity(), this.lookAtSnapshots()]);
      this.problem = null;
      if (this.snapshots?.length === 0 && this.doctor === null) {
        this.doctor = await this.api.doctor();
      }
    } catch (error) {
      this.problem = error instanceof Error ? error : new Error(String(error));
      throw error; // the poll slows down
    } finally {
      this._changed.emit();
    }
  }

  async lookAtSnapshots(): Promise<void> {
    this.snapshots = await this.api.snapshots();
    this._changed.emit();
  }

  async lookAtActivity(): Promise<void> {
    // Changes that arrive while the answer is on its way are folded into it once more: each says
    // where something stands, so that twice does no harm.
    const late: IChange[] = (this.late = []);
    const listed = await this.api.activity();
    if (this.late === late) {
      this.late = null;
    }
    this.sources = late.reduce(absorb, fromListing(listed));
    this.listen();
  }

  async lookAtGpu(): Promise<void> {
    this.gpu = await this.api.gpu();
    this._changed.emit();
  }

  private hear(_: unknown, emission: Event.Emission): void {
    if (emission.schema_id === SNAPSHOTS) {
      void this.lookAtSnapshots().catch(() => undefined); // a poll will say what is wrong
    }
    if (emission.schema_id !== ACTIVITY) {
      return;
    }
    const change = emission as unknown as IChange;
    this.late?.push(change);
    this.sources = absorb(this.sources, change);
    this.listen();
    this._changed.emit();
    const saved = ({ kind, item, state }: IChange['events'][0]) =>
      SAVING.includes(kind) && item === '' && isFinal(state);
    // A server that did not answer does so again: what it said meanwhile was not heard.
    if (this.problem !== null || change.events.some(saved)) {
      void this.poll.refresh();
    }
  }

  /** What no event tells: GPU memory, and that time goes by. */
  private async tick(): Promise<void> {
    if (this.gpu?.ok === false) {
      this._changed.emit();
    } else {
      await this.lookAtGpu();
    }
  }

  /** Note which operations have moved, by this page's clock: the kernel's may differ. */
  private listen(): void {
    const before = this.heard;
    const at = performance.now();
    this.heard = new Map();
    for (const { kernel, operation } of shown(this.sources).running) {
      const key = `${kernel}/${operation.id}`;
      const known = before.get(key);
      const same = known?.updated === operation.updated;
      this.heard.set(key, same ? known : { updated: operation.updated, at });
    }
  }

  private heard = new Map<string, { updated: number; at: number }>();
  private sources: Sources = new Map();
  private late: IChange[] | null = null;
  private readonly poll: Poll;
  private readonly gpuPoll: Poll;
  private readonly _changed = new Signal<this, void>(this);
  private _watched = false;
  private _isDisposed = false;
}
