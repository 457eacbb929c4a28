import { TranslationBundle } from '@jupyterlab/translation';
import { closeIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import { baseName } from './kernels';
import { IOperation, IShown, current } from './model';
import { Empty, IconButton, Section } from './parts';
import { headline, progressText, resultText, valueText } from './wording';

const SHOWN = 5; // operations that ended are shown up to this many, until one asks for all

interface IActivity {
  running: IShown[];
  ended: IShown[];
  documents: Map<string, string>;
  cancel: (shown: IShown) => void;
  trans: TranslationBundle;
}

export function ActivitySection(props: IActivity): JSX.Element {
  const { running, ended, documents, cancel, trans } = props;
  const [all, setAll] = React.useState(false);
  const visible = all ? ended : ended.slice(0, SHOWN);
  const keyOf = ({ kernel, operation }: IShown) => `${kernel}/${operation.id}`;
  return (
    <Section title={trans.__('Activity')} count={running.length}>
      {running.length + ended.length === 0 && (
        <Empty commands={['%load_ext zerostart', '%zs_install torch']}>
          {trans.__(
            'Nothing is running. What kernels install, load and save appears here, also while they are busy. To begin:'
          )}
        </Empty>
      )}
      <ul className="jp-Zerostart-list">
        {running.map(each => (
          <Running
            key={keyOf(each)}
            operation={each.operation}
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
      <Announcer operation={running[0]?.operation ?? ended[0]?.operation} trans={trans} />
    </Section>
  );
}

interface IOperationProps {
  operation: IOperation;
  document: string | undefined;
  trans: TranslationBundle;
}

function Running(props: IOperationProps & { cancel: () => void }): JSX.Element {
  const { operation, document, cancel, trans } = props;
  const title = headline(operation, trans);
  const item = current(operation);
  return (
    <li className="jp-Zerostart-card">
      <div className="jp-Zerostart-row">
        <span className="jp-Zerostart-title" title={title}>
          {title}
        </span>
        <IconButton icon={closeIcon} label={trans.__('Cancel: %1', title)} onClick={cancel} />
      </div>
      <progress
        aria-label={title}
        aria-valuetext={valueText(operation, trans)}
        value={operation.total === null ? undefined : Math.min(operation.done, operation.total)}
        max={operation.total ?? undefined}
      />
      <div className="jp-Zerostart-detail">
        {progressText(operation, trans) || trans.__('Beginning')}
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

/** Says what begins and ends, and not every number on the way. */
function Announcer(props: { operation?: IOperation; trans: TranslationBundle }): JSX.Element {
  const { operation, trans } = props;
  const said = operation ? headline(operation, trans) : '';
  return (
    <div className="jp-Zerostart-spoken" role="status">
      {said}
    </div>
  );
}
