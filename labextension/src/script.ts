/** The notebook's list of dependencies: a `# /// script` block in one of its cells (PEP 723). Pure. */

const BLOCK = /^# \/\/\/ script[ \t]*\r?\n((?:#(?: .*)?\r?\n)+?)# \/\/\/[ \t]*$/m;
const LIST = /^# dependencies[ \t]*=[ \t]*\[((?:"[^"\n]*"|'[^'\n]*'|[^\]"'])*)\]/m;
const TEXTS = /"([^"\n]*)"|'([^'\n]*)'/g;

/** A new cell that lists one dependency. */
export function scriptOf(distribution: string): string {
  return ['# /// script', `# dependencies = ["${distribution}"]`, '# ///'].join('\n');
}

/** Whether a cell's source has such a block. */
export function hasScript(source: string): boolean {
  return BLOCK.test(source);
}

/** The source with one dependency more in its block; the same if that lists it already. */
export function withDependency(source: string, distribution: string): string {
  return source.replace(BLOCK, block => {
    const list = LIST.exec(block);
    if (list === null) {
      const first = block.indexOf('\n') + 1;
      return `${block.slice(0, first)}# dependencies = ["${distribution}"]\n${block.slice(first)}`;
    }
    const listed = [...list[1].matchAll(TEXTS)].map(([, one, other]) => nameOf(one ?? other));
    if (listed.includes(normal(distribution))) {
      return block;
    }
    return block.replace(list[0], () => longer(list[0], list[1], distribution));
  });
}

function longer(list: string, body: string, distribution: string): string {
  const head = list.slice(0, list.length - body.length - 1);
  const text = `"${distribution}"`;
  if (!body.includes('\n')) {
    const before = body.trim().replace(/,$/, '');
    return `${head}${before ? `${before}, ` : ''}${text}]`;
  }
  // One a line, as the lines before are written.
  const lines = body.replace(/\s*#?\s*$/, '');
  const indent = /\n(#[ \t]*)["']/.exec(body)?.[1] ?? '#   ';
  const comma = /[,[]\s*$/.test(lines) || !/["']/.test(lines) ? '' : ',';
  return `${head}${lines}${comma}\n${indent}${text},\n# ]`;
}

function nameOf(requirement: string): string {
  return normal(/^[A-Za-z0-9._-]*/.exec(requirement.trim())![0]);
}

function normal(name: string): string {
  return name.replace(/[-_.]+/g, '-').toLowerCase();
}
