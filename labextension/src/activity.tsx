import { TranslationBundle } from '@jupyterlab/translation';
import { closeIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import { baseName } from './kernels';
import { ICapability } from './api';
import { IOperation, IShown, canBeCancelled, current } from './model';
import { Bar, Empty, IconButton, Section } from './parts';
import { headline, newsText, progressText, resultText, valueText } from './wording';

const SHOWN = 5; // operations that ended are shown up to this many, until one asks for all

interface IActivity {
  running: IShown[];
  ended: IShown[];
  documents: Map<string, string>;
  cancel: (shown: IShown) => void;
  /** What works here, once that is known; and the way to all of it. */
  found: readonly ICapability[] | null;
  doctor: () => void;
  trans: TranslationBundle;
}

export function ActivitySection(props: IActivity): JSX.Element {
  const { running, ended, documents, cancel, found, doctor, trans } = props;
  const [all, setAll] = React.useState(false);
  const visible = all ? ended : ended.slice(0, SHOWN);
  const keyOf = ({ kernel, operation }: IShown) => `${kernel}/${operation.id}`;
  return (
    <Section title={trans.__('Activity')} count={running.length}>
      {running.length + ended.length === 0 && (
        <>
          <Empty commands={['%load_ext zerostart', '%zs_install torch']}>
            {trans.__(
              'Nothing is running. What kernels install, load and save appears here, also while they are busy. To begin:'
            )}
          </Empty>
          {found && <Found found={found} show={doctor} trans={trans} />}
        </>
      )}
      <ul className="jp-Zerostart-list">
        {running.map(each => (
          <Running
            key={keyOf(each)}
            operation={each.operation}
            quiet={each.quiet}
            document={documents.get(each.kernel)}
            cancel={() => cancel(each)}
            trans={trans}
          />
        ))}
        {visible.map(each => (
          <Ended
            key={keyOf(each)}
            operation={each.operation}
            document={documents.get(each.kernel)}
            trans={trans}
          />
        ))}
      </ul>
      {ended.length > SHOWN && (
        <button className="jp-Zerostart-more" aria-expanded={all} onClick={() => setAll(!all)}>
          {all ? trans.__('Show fewer') : trans.__('Show all %1 that ended', ended.length)}
        </button>
      )}
      <div className="jp-Zerostart-spoken" role="status">
        {newsText(running, ended, trans)}
      </div>
    </Section>
  );
}

interface IFound {
  found: readonly ICapability[];
  show: () => void;
  trans: TranslationBundle;
}

/** What doctor found, in a line: what does not work here is named, all else is counted. */
function Found({ found, show, trans }: IFound): JSX.Element {
  const absent = found.filter(each => !each.ok).map(each => each.name);
  return (
    <p className="jp-Zerostart-found">
      {absent.length === 0
        ? trans.__('All %1 checks of this machine pass.', found.length)
        : trans.__(
            '%1 of %2 checks of this machine pass; not %3.',
            found.length - absent.length,
            found.length,
            absent.join(', ')
          )}{' '}
      <button className="jp-Zerostart-link" onClick={show}>
        {trans.__('What works here')}
      </button>
    </p>
  );
}

interface IOperationProps {
  operation: IOperation;
  document: string | undefined;
  trans: TranslationBundle;
}

interface IRunning extends IOperationProps {
  quiet: number | undefined;
  cancel: () => void;
}

function Running({ operation, quiet, document, cancel, trans }: IRunning): JSX.Element {
  const title = headline(operation, trans);
  const item = current(operation);
  return (
    <li className="jp-Zerostart-card">
      <div className="jp-Zerostart-row">
        <span className="jp-Zerostart-title" title={title}>
          {title}
        </span>
        {canBeCancelled(operation) && (
          <IconButton icon={closeIcon} label={trans.__('Cancel: %1', title)} onClick={cancel} />
        )}
      </div>
      <Bar {...operation} label={title} words={valueText(operation, trans)} />
      <div className="jp-Zerostart-detail">
        {progressText(operation, trans, quiet) || trans.__('Beginning')}
      </div>
      {(item || document) && (
        <div className="jp-Zerostart-row jp-Zerostart-detail">
          <span className="jp-Zerostart-current" title={item}>
            {item}
          </span>
          <Document path={document} />
        </div>
      )}
    </li>
  );
}

function Ended({ operation, document, trans }: IOperationProps): JSX.Element {
  const { state } = operation;
  const mark = state === 'done' ? '✓' : '✗';
  const title = headline(operation, trans);
  return (
    <li className="jp-Zerostart-card" data-state={state}>
      <div className="jp-Zerostart-row">
        <span className="jp-Zerostart-mark" aria-hidden="true">
          {mark}
        </span>
        <span className="jp-Zerostart-title" title={title}>
          {title}
        </span>
      </div>
      <div className="jp-Zerostart-row jp-Zerostart-detail">
        <span className="jp-Zerostart-result">{resultText(operation, trans)}</span>
        <Document path={document} />
      </div>
    </li>
  );
}

function Document({ path }: { path: string | undefined }): JSX.Element | null {
  return path ? (
    <span className="jp-Zerostart-document" title={path}>
      {baseName(path)}
    </span>
  ) : null;
}
