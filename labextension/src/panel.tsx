import { ReactWidget } from '@jupyterlab/apputils';
import { Kernel } from '@jupyterlab/services';
import { TranslationBundle } from '@jupyterlab/translation';
import { Message } from '@lumino/messaging';
import * as React from 'react';

import { Actions } from './actions';
import { ActivitySection } from './activity';
import { Refusal } from './api';
import { GpuSection } from './gpu';
import { boltIcon } from './icons';
import { Live } from './live';
import { Empty } from './parts';
import { SnapshotsSection } from './snapshots';

function Problem(props: { error: Error; trans: TranslationBundle }): JSX.Element {
  const { error, trans } = props;
  return error instanceof Refusal && error.status === 404 ? (
    <Empty commands={['jupyter server extension enable zerostart_jupyter']}>
      {trans.__('This server runs without the zerostart extension. In a terminal:')}
    </Empty>
  ) : (
    <Empty>{trans.__('The server does not answer the panel: %1', error.message)}</Empty>
  );
}

/** The sidebar: what runs, what the GPU holds, what one can go back to. */
export class Panel extends ReactWidget {
  constructor(
    private readonly live: Live,
    private readonly actions: Actions,
    private readonly documents: () => Map<string, string>,
    private readonly kernels: Kernel.IManager,
    private readonly trans: TranslationBundle
  ) {
    super();
    this.id = 'zerostart-panel';
    this.addClass('jp-Zerostart');
    this.title.icon = boltIcon;
    this.title.caption = trans.__('zerostart: activity and snapshots');
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', trans.__('zerostart'));
    live.changed.connect(this.update, this);
  }

  protected override onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this.live.watched = true;
  }

  protected override onBeforeHide(message: Message): void {
    this.live.watched = false;
    super.onBeforeHide(message);
  }

  protected override render(): JSX.Element {
    const { live, actions, trans } = this;
    const documents = this.documents();
    const kernels = [...this.kernels.running()];
    const { running, ended } = live.operations;
    return (
      <>
        <div role="alert">{live.problem && <Problem error={live.problem} trans={trans} />}</div>
        <ActivitySection
          running={running}
          ended={ended}
          documents={documents}
          cancel={shown => void actions.cancel(shown)}
          found={live.snapshots?.length === 0 ? live.doctor : null}
          doctor={() => void actions.doctor()}
          trans={trans}
        />
        <GpuSection
          gpu={live.gpu}
          documents={documents}
          reachable={id => kernels.some(each => each.id === id)}
          move={(kernel, what) => void actions.move(kernel, what)}
          trans={trans}
        />
        <SnapshotsSection snapshots={live.snapshots} actions={actions} trans={trans} />
      </>
    );
  }
}
