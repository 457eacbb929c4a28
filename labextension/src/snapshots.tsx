import { TranslationBundle } from '@jupyterlab/translation';
import { deleteIcon, editIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import { Actions } from './actions';
import { ISnapshot } from './api';
import { baseName } from './kernels';
import { Empty, IconButton, Section } from './parts';
import { aboutText, agoText, secondsText, sizeText, unbroken } from './wording';

const SHOWN = 50; // the newest, until one asks for all
const MANY = 8; // from this many snapshots on there is a field to search them

interface ISnapshots {
  snapshots: readonly ISnapshot[] | null;
  actions: Actions;
  trans: TranslationBundle;
}

export function SnapshotsSection({ snapshots, actions, trans }: ISnapshots): JSX.Element {
  const [query, setQuery] = React.useState('');
  const [all, setAll] = React.useState(false);
  const target = actions.target();
  const newest = [...(snapshots ?? [])].sort((a, b) => b.created - a.created);
  const found = newest.filter(each => matches(each, query));
  return (
    <Section title={trans.__('Snapshots')}>
      {snapshots?.length === 0 && (
        <Empty commands={['%load_ext zerostart', '%zs_snapshot save ready']}>
          {trans.__(
            'No snapshots yet. A snapshot is a kernel with all it holds: variables, imports, loaded weights. Save one when a notebook is ready, and come back to it in a moment instead of running it again:'
          )}
        </Empty>
      )}
      {newest.length > MANY && (
        <input
          type="search"
          className="jp-Zerostart-search"
          aria-label={trans.__('Search snapshots')}
          placeholder={trans.__('Search %1 snapshots', newest.length)}
          value={query}
          onChange={event => setQuery(event.target.value)}
        />
      )}
      {newest.length > 0 && (
        <p className="jp-Zerostart-target" title={target?.path}>
          {target
            ? trans.__('Restores into %1', baseName(target.path))
            : trans.__('Open a notebook to restore a snapshot into it.')}
        </p>
      )}
      <ul className="jp-Zerostart-list">
        {found.slice(0, all ? undefined : SHOWN).map(each => (
          <Snapshot
            key={each.id}
            snapshot={each}
            actions={actions}
            restorable={target !== null}
            trans={trans}
          />
        ))}
      </ul>
      {found.length > SHOWN && (
        <button className="jp-Zerostart-more" aria-expanded={all} onClick={() => setAll(!all)}>
          {all ? trans.__('Show the newest only') : trans.__('Show all %1', found.length)}
        </button>
      )}
      {newest.length > 0 && found.length === 0 && (
        <Empty>{trans.__('No snapshot is called that.')}</Empty>
      )}
    </Section>
  );
}

interface ISnapshotProps {
  snapshot: ISnapshot;
  actions: Actions;
  restorable: boolean;
  trans: TranslationBundle;
}

function Snapshot({ snapshot, actions, restorable, trans }: ISnapshotProps): JSX.Element {
  const { name, created, notebook, bytes, gpu_bytes, tier, reason, trusted } = snapshot;
  const when = new Date(created * 1000);
  const title = React.useId();
  return (
    <li className="jp-Zerostart-card" aria-labelledby={title}>
      <div className="jp-Zerostart-row">
        <span className="jp-Zerostart-title" id={title} title={name}>
          {name}
        </span>
        <IconButton
          icon={editIcon}
          label={trans.__('Rename %1', name)}
          onClick={() => void actions.rename(snapshot)}
        />
        <IconButton
          icon={deleteIcon}
          label={trans.__('Delete %1', name)}
          onClick={() => void actions.delete(snapshot)}
        />
      </div>
      <div className="jp-Zerostart-detail jp-Zerostart-line">
        <time dateTime={when.toISOString()} title={when.toLocaleString()}>
          {agoText(created, Date.now() / 1000, trans)}
        </time>
        {notebook && <span title={notebook}>{` · ${baseName(notebook)}`}</span>}
      </div>
      <div className="jp-Zerostart-detail" title={reason || undefined}>
        {sizeText(bytes)}
        {gpu_bytes > 0 && ` · ${trans.__('GPU %1', sizeText(gpu_bytes))}`}
        {` · ${tierText(tier, trans)}`}
      </div>
      <div className="jp-Zerostart-detail">{worthText(snapshot, trans)}</div>
      {trusted === false && (
        <div className="jp-Zerostart-detail">
          {trans.__(
            'Imported. Its code runs once you trust it: %zs_snapshot restore %1 --trust',
            name
          )}
        </div>
      )}
      <div className="jp-Zerostart-buttons">
        <button
          className="jp-mod-styled jp-mod-accept"
          aria-label={trans.__('Restore %1 here', name)}
          disabled={!restorable}
          onClick={() => void actions.restore(snapshot)}
        >
          {trans.__('Restore here')}
        </button>
        <button
          className="jp-mod-styled"
          aria-label={trans.__('Open %1 as new kernel', name)}
          onClick={() => void actions.open(snapshot)}
        >
          {trans.__('Open as new kernel')}
        </button>
      </div>
    </li>
  );
}

function matches({ name, notebook }: ISnapshot, query: string): boolean {
  return `${name} ${notebook ?? ''}`.toLowerCase().includes(query.trim().toLowerCase());
}

/** What a restore takes, and what it saves: '' where neither is known. */
function worthText(snapshot: ISnapshot, trans: TranslationBundle): string {
  const { restore_seconds = 0, kernel_seconds = 0 } = snapshot;
  const takes = unbroken(aboutText(restore_seconds));
  const ran = unbroken(secondsText(kernel_seconds));
  if (restore_seconds > 0 && kernel_seconds >= 1) {
    return trans.__('Back in about %1; running took %2', takes, ran);
  }
  if (restore_seconds > 0) {
    return trans.__('Back in about %1', takes);
  }
  return kernel_seconds >= 1 ? trans.__('Saves running for %1', ran) : '';
}

function tierText(tier: string, trans: TranslationBundle): string {
  switch (tier) {
    case 'process':
      return trans.__('whole process');
    case 'portable':
      return trans.__('portable');
    default:
      return tier;
  }
}
