import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { IGpu } from './api';
import { baseName } from './kernels';
import { Empty, Section } from './parts';
import { sizeText } from './wording';

interface IGpuSection {
  gpu: IGpu | null;
  documents: Map<string, string>;
  trans: TranslationBundle;
}

export function GpuSection({ gpu, documents, trans }: IGpuSection): JSX.Element {
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
            <progress aria-label={device.name} value={device.used} max={device.total} />
            {gpu.kernels
              .filter(each => each.device === device.index)
              .map(each => (
                <div className="jp-Zerostart-row jp-Zerostart-detail" key={each.kernel}>
                  <span className="jp-Zerostart-current">{nameOf(each.kernel)}</span>
                  <span>{sizeText(each.bytes)}</span>
                </div>
              ))}
          </li>
        ))}
      </ul>
    </Section>
  );
}
