import { describe, expect, it } from 'vitest';

import { hasScript, scriptOf, withDependency } from '../src/script';

const block = (...lines: string[]) => ['# /// script', ...lines, '# ///'].join('\n');

describe('the block of dependencies', () => {
  it('begins with one', () => {
    expect(hasScript(scriptOf('pillow'))).toBe(true);
    expect(withDependency(scriptOf('pillow'), 'pillow')).toBe(scriptOf('pillow'));
  });

  it('is not any comment', () => {
    expect(hasScript('# script\nimport torch')).toBe(false);
    expect(withDependency('import torch', 'pillow')).toBe('import torch');
  });

  it.each([
    ['# dependencies = ["torch"]', '# dependencies = ["torch", "pillow"]'],
    ["# dependencies = ['torch>=2',]", "# dependencies = ['torch>=2', \"pillow\"]"],
    ['# dependencies = []', '# dependencies = ["pillow"]'],
    ['# dependencies=["uvicorn[standard]"]', '# dependencies=["uvicorn[standard]", "pillow"]'],
    ['# dependencies = ["Pillow>=9"]', '# dependencies = ["Pillow>=9"]']
  ])('in one line: %s', (before, after) =>
    expect(withDependency(block(before), 'pillow')).toBe(block(after))
  );

  it('in several lines keeps them', () => {
    const lines = ['# requires-python = ">=3.11"', '# dependencies = [', '#   "torch",', '#   "numpy"'];
    expect(withDependency(block(...lines, '# ]'), 'pillow')).toBe(
      block(...lines.slice(0, 3), '#   "numpy",', '#   "pillow",', '# ]')
    );
    expect(withDependency(block('# dependencies = [', '# ]'), 'pillow')).toBe(
      block('# dependencies = [', '#   "pillow",', '# ]')
    );
  });

  it('gets a list where it has none', () => {
    expect(withDependency(block('# requires-python = ">=3.11"'), 'pillow')).toBe(
      block('# dependencies = ["pillow"]', '# requires-python = ">=3.11"')
    );
  });

  it('leaves the rest of the cell alone', () => {
    const source = `%%zs_install\n${block('# dependencies = ["torch"]')}\n# dependencies = ["x"]`;
    expect(withDependency(source, 'pillow')).toBe(
      `%%zs_install\n${block('# dependencies = ["torch", "pillow"]')}\n# dependencies = ["x"]`
    );
  });
});
