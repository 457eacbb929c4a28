/** The panel's own files, for tests that read them. */

import { readFileSync, readdirSync } from 'node:fs';

/** The files below `folder` whose names end so: name and text. */
export function files(folder: 'src' | 'style', ...endings: string[]): [string, string][] {
  const root = new URL(`../${folder}/`, import.meta.url);
  return readdirSync(root)
    .filter(name => endings.some(ending => name.endsWith(ending)))
    .map(name => [name, readFileSync(new URL(name, root), 'utf8')]);
}
