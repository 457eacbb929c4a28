/**
 * The fold of events into what a person sees: `zerostart_jupyter/core/activity.py`, once more.
 *
 * Pure, and it imports nothing: `tests/corpus/activity.json` is folded by both sides' tests.
 */

export type State = 'waiting' | 'running' | 'done' | 'failed' | 'cancelled';

/** How far something is; `total` is null while it is unknown. */
export interface IProgress {
  readonly state: State;
  readonly done: number;
  readonly total: number | null;
  readonly unit: string;
  readonly error: string | null;
}

/** One step of one item; the item `''` is the operation as a whole. Times are epoch seconds. */
export interface IEvent extends IProgress {
  readonly operation: string;
  readonly kind: string;
  readonly title: string;
  readonly item: string;
  readonly time: number;
}

/** One distribution, shard or step of an operation. */
export interface IItem extends IProgress {
  readonly name: string;
}

export interface IOperation extends IProgress {
  readonly id: string;
  readonly kind: string;
  readonly title: string;
  readonly started: number;
  readonly updated: number;
  readonly items: readonly IItem[];
}

/** Operations by id, in the order in which they began. */
export type Activity = ReadonlyMap<string, IOperation>;

/** A prompt number, and the CRC-32 of what was run under it. */
export type Ran = readonly [number, number];

/** A cell without an undo point, and why it has none. */
export type Gap = readonly [number, number, string];

/** Which cells of a kernel can be undone, oldest first; `gaps` says why others cannot. */
export interface IUndo {
  readonly on: boolean;
  readonly bytes: number;
  readonly cells: readonly Ran[];
  readonly gaps: readonly Gap[];
  readonly undone: readonly Ran[];
}

/** What one process says of one kernel. */
export interface ISource {
  readonly kernel: string;
  readonly writer: string;
  readonly activity: Activity;
  readonly undo: IUndo | null;
}

/** Sources by kernel and writer. */
export type Sources = ReadonlyMap<string, ISource>;

/** The data of a `urn:zerostart:activity` event. */
export interface IChange {
  readonly kernel: string;
  readonly writer: string;
  readonly events: readonly IEvent[];
  readonly gone: readonly string[];
  /** Where it has changed. */
  readonly undo?: IUndo | null;
}

/** One entry of GET activity. */
export interface IListed {
  readonly kernel: string;
  readonly writer: string;
  readonly operations: readonly IOperation[];
  readonly undo?: IUndo;
}

/** An operation and the kernel it works for. */
export interface IShown {
  readonly kernel: string;
  readonly operation: IOperation;
  /** Seconds for which a running one has not been heard of; 0 while it is. */
  readonly quiet?: number;
}

/** True once nothing more will happen. */
export function isFinal(state: State): boolean {
  return state === 'done' || state === 'failed' || state === 'cancelled';
}

/** Not what a GPU's driver does in one step: nothing can stop that. */
export function canBeCancelled({ kind }: IOperation): boolean {
  return kind !== 'park' && kind !== 'wake';
}

/** A new activity with these events taken in; the old one is left alone. */
export function fold(activity: Activity, events: Iterable<IEvent>): Activity {
  const operations = new Map(activity);
  for (const event of events) {
    operations.set(event.operation, step(operations.get(event.operation), event));
  }
  return operations;
}

function step(known: IOperation | undefined, event: IEvent): IOperation {
  const operation = known ?? begin(event);
  const updated = Math.max(operation.updated, event.time);
  const { state, done, total, unit, error } = event;
  if (event.item === '') {
    // Items are proof of work: an operation that has some is no longer waiting.
    const begun = state === 'waiting' && operation.items.length > 0;
    return { ...operation, state: begun ? 'running' : state, updated, done, total, unit, error };
  }
  const item = { name: event.item, state, done, total, unit, error };
  const items = operation.items.some(each => each.name === item.name)
    ? operation.items.map(each => (each.name === item.name ? item : each))
    : [...operation.items, item];
  const overall = isFinal(operation.state) ? operation.state : 'running';
  return { ...operation, state: overall, updated, items };
}

function begin(event: IEvent): IOperation {
  return {
    id: event.operation,
    kind: event.kind,
    title: event.title,
    state: 'waiting',
    started: event.time,
    updated: event.time,
    done: 0,
    total: null,
    unit: event.unit,
    error: null,
    items: []
  };
}

/** How long an operation has run, by its own events, in seconds. */
export function elapsed(operation: IOperation): number {
  return Math.max(0, operation.updated - operation.started);
}

/** Units a second over the whole operation, 0 while nothing has arrived. */
export function rate(operation: IOperation): number {
  const seconds = elapsed(operation);
  return seconds > 0 ? operation.done / seconds : 0;
}

/** Predicted from the rate so far; null while there is nothing to predict from. */
export function secondsLeft(operation: IOperation): number | null {
  const speed = rate(operation);
  if (isFinal(operation.state) || operation.total === null || speed <= 0) {
    return null;
  }
  return Math.max(0, (operation.total - operation.done) / speed);
}

/** The item in work that began first, or ''. */
export function current(operation: IOperation): string {
  return operation.items.find(item => item.state === 'running')?.name ?? '';
}

/** The sources with one change taken in. */
export function absorb(sources: Sources, change: IChange): Sources {
  const key = keyOf(change);
  const before = sources.get(key);
  const activity = new Map(fold(before?.activity ?? new Map(), change.events));
  const undo = change.undo === undefined ? (before?.undo ?? null) : change.undo;
  for (const id of change.gone) {
    activity.delete(id);
  }
  const after = new Map(sources);
  if (activity.size > 0 || undo !== null) {
    after.set(key, { kernel: change.kernel, writer: change.writer, activity, undo });
  } else {
    after.delete(key);
  }
  return after;
}

/** The sources as GET activity lists them. */
export function fromListing(listed: Iterable<IListed>): Sources {
  const sources = new Map<string, ISource>();
  for (const { kernel, writer, operations, undo = null } of listed) {
    const activity = new Map(operations.map(each => [each.id, each]));
    sources.set(keyOf({ kernel, writer }), { kernel, writer, activity, undo });
  }
  return sources;
}

/** All operations as a person wants them: what runs, oldest first; then what ended, newest first. */
export function shown(sources: Sources): { running: IShown[]; ended: IShown[] } {
  const all = [...sources.values()].flatMap(({ kernel, activity }) =>
    [...activity.values()].map(operation => ({ kernel, operation }))
  );
  const running = all.filter(({ operation }) => !isFinal(operation.state));
  const ended = all.filter(({ operation }) => isFinal(operation.state));
  running.sort((a, b) => a.operation.started - b.operation.started);
  ended.sort((a, b) => b.operation.updated - a.operation.updated);
  return { running, ended };
}

/** What can be undone in a kernel; null while nothing is known of that. */
export function undoOf(sources: Sources, kernel: string): IUndo | null {
  const all = [...sources.values()];
  return all.find(each => each.kernel === kernel && each.undo !== null)?.undo ?? null;
}

function keyOf(source: { kernel: string; writer: string }): string {
  return `${source.kernel}/${source.writer}`;
}
