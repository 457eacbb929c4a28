import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { ICapability } from './api';

/** Every capability with its reason; where it does not work here, with the next step. */
export function doctorBody(found: readonly ICapability[], trans: TranslationBundle): JSX.Element {
  return (
    <dl className="jp-Zerostart-doctor">
      {found.map(({ name, ok, reason, remedy }) => (
        <React.Fragment key={name}>
          <dt data-state={ok ? 'done' : 'failed'}>
            <span className="jp-Zerostart-mark" role="img" aria-label={ok ? trans.__('works') : trans.__('does not work')}>
              {ok ? '✓' : '✗'}
            </span>
            {name}
          </dt>
          <dd>
            {reason}
            {remedy && <div className="jp-Zerostart-detail">{remedy}</div>}
          </dd>
        </React.Fragment>
      ))}
    </dl>
  );
}
