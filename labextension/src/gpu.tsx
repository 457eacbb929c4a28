import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { IGpu } from './api';
import { baseName } from './kernels';
import { Bar, Empty, Section } from './parts';
import { sizeText } from './wording';

interface IGpuSection {
  gpu: IGpu | null;
  documents: Map<string, string>;
  /** Whether this server has such a kernel; another client's can be shown, and asked for nothing. */
  reachable: (kernel: string) => boolean;
  /** Have a kernel park its GPU memory, or wake it. */
  move: (kernel: string, what: 'park' | 'wake') => void;
  trans: TranslationBundle;
}

export function GpuSection({ gpu, documents, reachable, move, trans }: IGpuSection): JSX.Element {
  const nameOf = (kernel: string) =>
    baseName(documents.get(kernel) ?? trans.__('kernel %1', kernel.slice(0, 8)));
  return (
    <Section title={trans.__('GPU')}>
      {gpu !== null && !gpu.ok && <Empty>{`${gpu.reason} ${gpu.remedy}`}</Empty>}
      <ul className="jp-Zerostart-list">
        {gpu?.devices.map(device => (
          <li className="jp-Zerostart-card" key={device.index}>
            <div className="jp-Zerostart-row">
              <span className="jp-Zerostart-title">{device.name}</span>
              <span className="jp-Zerostart-amount">
                {trans.__('%1 of %2', sizeText(device.used), sizeText(device.total))}
              </span>
            </div>
            <Bar label={device.name} done={device.used} total={device.total} />
            {!gpu.kernels.some(each => each.device === device.index) && (
              <div className="jp-Zerostart-detail">{trans.__('No kernel holds any of it.')}</div>
            )}
            {gpu.kernels
              .filter(each => each.device === device.index)
              .map(each => (
                <Held
                  key={each.kernel}
                  name={nameOf(each.kernel)}
                  amount={sizeText(each.bytes)}
                  action={trans.__('Park')}
                  label={trans.__('Park what %1 has on the GPU', nameOf(each.kernel))}
                  onClick={reachable(each.kernel) ? () => move(each.kernel, 'park') : null}
                />
              ))}
          </li>
        ))}
        {gpu?.parked.map(each => (
          <li className="jp-Zerostart-card" key={each.kernel}>
            <Held
              name={nameOf(each.kernel)}
              action={trans.__('Wake')}
              label={trans.__('Wake what %1 has parked', nameOf(each.kernel))}
              onClick={reachable(each.kernel) ? () => move(each.kernel, 'wake') : null}
            />
            <div className="jp-Zerostart-detail">
              {trans.__('%1 parked in host memory', sizeText(each.bytes))}
            </div>
          </li>
        ))}
      </ul>
    </Section>
  );
}

interface IHeld {
  name: string;
  amount?: string;
  action: string;
  label: string;
  onClick: (() => void) | null;
}

function Held({ name, amount, action, label, onClick }: IHeld): JSX.Element {
  return (
    <div className="jp-Zerostart-row jp-Zerostart-detail">
      <span className="jp-Zerostart-current" title={name}>
        {name}
      </span>
      {amount && <span>{amount}</span>}
      {onClick && (
        <button className="jp-Zerostart-link" aria-label={label} onClick={onClick}>
          {action}
        </button>
      )}
    </div>
  );
}
