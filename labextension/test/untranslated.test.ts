import ts from 'typescript';
import { describe, expect, it } from 'vitest';

import { files } from './sources';

const SPOKEN = ['title', 'alt', 'placeholder', 'aria-label', 'aria-description'];
const SHOWN = ['label', 'caption', 'title', 'body', 'text', 'message', 'okLabel', 'ariaLabel'];
const NO_WORDS = /^(%|jupyter |#|\n|__import__|jp-)/; // what is typed, what a kernel runs, classes
const SENTENCE = /[A-Za-z]{2,},? [A-Za-z]{2,}/;

/** Texts that a person would see in English only: the line, and the text. */
function untranslated(name: string, text: string): string[] {
  const source = ts.createSourceFile(name, text, ts.ScriptTarget.Latest, true);
  const found: string[] = [];
  const look = (node: ts.Node): void => {
    if (isTranslation(node) || ts.isImportDeclaration(node)) {
      return; // and whatever is below it
    }
    const words = wordsOf(node);
    if (words !== null && !NO_WORDS.test(words) && isSeen(node, words)) {
      found.push(`${source.getLineAndCharacterOfPosition(node.getStart()).line + 1}: ${words.trim()}`);
    }
    ts.forEachChild(node, look);
  };
  look(source);
  return found;
}

function isTranslation(node: ts.Node): boolean {
  return ts.isCallExpression(node) && /\b(trans|bundle)\.(__|_n|_p|_np)$/.test(node.expression.getText());
}

/** The letters of a literal; of a template only what is written in it. */
function wordsOf(node: ts.Node): string | null {
  if (ts.isStringLiteralLike(node) || ts.isJsxText(node)) {
    return /[A-Za-z]/.test(node.text) ? node.text : null;
  }
  if (ts.isTemplateExpression(node)) {
    const written = [node.head, ...node.templateSpans.map(span => span.literal)];
    const text = written.map(each => each.text).join('\u2026');
    return /[A-Za-z]/.test(text) ? text : null;
  }
  return null;
}

/** Whether this is shown or spoken where it stands, or reads like a sentence anywhere. */
function isSeen(node: ts.Node, words: string): boolean {
  const { parent } = node;
  if (ts.isJsxText(node)) {
    return true;
  }
  const attribute = ts.isJsxExpression(parent) ? parent.parent : parent;
  if (ts.isJsxAttribute(attribute)) {
    return SPOKEN.includes(attribute.name.getText());
  }
  if (ts.isPropertyAssignment(parent) && parent.initializer === node) {
    const property = parent.name.getText();
    return property !== 'description' && (SHOWN.includes(property) || SENTENCE.test(words));
  }
  if (ts.isBinaryExpression(parent) && parent.right === node) {
    return /\.(textContent|innerText|title|placeholder)$/.test(parent.left.getText());
  }
  return SENTENCE.test(words) && !/^[\w ]*(<|xmlns=)/.test(words);
}

describe('texts that a person sees', () => {
  it.each(files('src', '.ts', '.tsx'))('are translated in %s', (name, text) =>
    expect(untranslated(name, text)).toEqual([])
  );

  it.each([
    ['<p>No snapshots yet.</p>', 'No snapshots yet.'],
    ['<button aria-label="Delete" />', 'Delete'],
    ['<button title={`Delete ${name}`} />', 'Delete \u2026'],
    ["const dialog = { title: 'Restore' };", 'Restore'],
    ["node.textContent = 'Cancelled';", 'Cancelled'],
    ["Notification.error('There is none.');", 'There is none.']
  ])('are found where they are not: %s', (code, words) =>
    expect(untranslated('one.tsx', code)).toEqual([`1: ${words}`])
  );

  it.each([
    "<p>{trans.__('No snapshots yet.')}</p>",
    '<div className="jp-Zerostart-row jp-Zerostart-detail" role="status" />',
    "const kind = 'install';",
    "ask(kernel, '%load_ext zerostart')"
  ])('are told from others: %s', code => expect(untranslated('one.tsx', code)).toEqual([]));
});
