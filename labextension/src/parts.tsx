/** The few pieces all sections are made of. */

import { LabIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

interface ISection {
  title: string;
  count?: number;
  children: React.ReactNode;
}

export function Section({ title, count, children }: ISection): JSX.Element {
  const id = React.useId();
  return (
    <section className="jp-Zerostart-section" aria-labelledby={id}>
      <h2 className="jp-Zerostart-heading" id={id}>
        {title}
        {count ? <span className="jp-Zerostart-count">{count}</span> : null}
      </h2>
      {children}
    </section>
  );
}

/** What a section is for, and the cell that makes it useful. */
export function Empty(props: { children: React.ReactNode; commands?: string[] }): JSX.Element {
  return (
    <div className="jp-Zerostart-empty">
      <p>{props.children}</p>
      {props.commands && <pre>{props.commands.join('\n')}</pre>}
    </div>
  );
}

interface IIconButton {
  icon: LabIcon;
  label: string;
  onClick: () => void;
}

export function IconButton({ icon, label, onClick }: IIconButton): JSX.Element {
  return (
    <button className="jp-Zerostart-iconButton" aria-label={label} title={label} onClick={onClick}>
      <icon.react tag="span" width="14px" height="14px" />
    </button>
  );
}

interface IBar {
  done: number;
  total: number | null;
  label: string;
  /** The same as words, where there are some. */
  words?: string;
}

/** How far something is; without a total only that it moves. */
export function Bar({ done, total, label, words }: IBar): JSX.Element {
  return (
    <progress
      className="jp-Zerostart-bar"
      aria-label={label}
      aria-valuetext={words}
      value={total === null ? undefined : Math.min(done, total)}
      max={total ?? undefined}
    />
  );
}
