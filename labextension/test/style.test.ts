import { describe, expect, it } from 'vitest';

import { files } from './sources';

const COLOURS = /#[0-9a-f]{3,8}\b|\b(rgba?|hsla?|hwb|lab|lch|oklab|oklch|color)\(/i;
const NAMED =
  /(?:^|[\s,(])(black|white|gr[ae]y|silver|red|green|blue|yellow|orange|purple|pink|brown|navy|teal|lime|aqua|cyan|magenta|maroon|olive|fuchsia|(?:light|dark)\w*)(?=[\s,;)]|$)/i;
const SYSTEM = /\b(Canvas|CanvasText|LinkText|Highlight|HighlightText|ButtonText|ButtonFace|GrayText)\b/;

/** Declarations that say a colour, or another theme's measure, themselves. */
function literal(css: string): string[] {
  const plain = css.replace(/\/\*[^]*?\*\//g, '');
  const contrast = /@media \(forced-colors: active\) \{[^]*?\n\}/g;
  const own = declarations(plain.replace(contrast, ''));
  const forced = (plain.match(contrast) ?? []).flatMap(declarations);
  return [
    ...[...own, ...forced].filter(([, value]) => COLOURS.test(value) || NAMED.test(value)),
    ...own.filter(([, value]) => SYSTEM.test(value))
  ].map(([name, value]) => `${name}: ${value}`);
}

function declarations(css: string): [string, string][] {
  return [...css.matchAll(/([\w-]+):\s*([^;{}]+);/g)].map(([, name, value]) => [name, value.trim()]);
}

describe('the look', () => {
  it.each(files('style', '.css'))("is the theme's in %s", (_, css) => expect(literal(css)).toEqual([]));

  it.each(files('src', '.ts', '.tsx').filter(([name]) => name !== 'icons.ts'))(
    'is left to the style sheets by %s',
    (_, text) => expect(text).not.toMatch(/style=\{|\.style\.|#[0-9a-f]{6}\b/i)
  );

  it.each([
    ['a { color: #616161; }', ['color: #616161']],
    ['a { background: rgb(0, 0, 0); }', ['background: rgb(0, 0, 0)']],
    ['a { border: 1px solid red; }', ['border: 1px solid red']],
    ['a { color: Highlight; }', ['color: Highlight']],
    ['a { color: var(--jp-ui-font-color1); background: transparent; }', []],
    ['@media (forced-colors: active) {\n  a {\n    color: Highlight;\n  }\n}', []]
  ])('of %s is judged', (css, found) => expect(literal(css)).toEqual(found));
});
