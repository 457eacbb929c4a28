from __future__ import annotations

import sys
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerostart_jupyter.core.errors import RequirementError
from zerostart_jupyter.install import blocks

NEW = f">={sys.version_info.major}.{sys.version_info.minor}"
BLOCK = """\
# /// script
# requires-python = ">=3.11"
# dependencies = [
#   'numpy<3',  # for the arrays
#   "pandas ; sys_platform == 'linux'"
# ]
#
# [tool.uv]
# dependencies = ["not these"]
# ///
"""


def read(text: str) -> dict[str, object]:
    inside = blocks.body(text)
    assert inside is not None
    return blocks.table(inside, "the text")


def test_a_text_without_a_block_gets_one() -> None:
    new = blocks.written("import numpy\n", ["numpy", "torch>=2"])
    assert read(new) == {"requires-python": NEW, "dependencies": ["numpy", "torch>=2"]}
    assert new.endswith("# ///\nimport numpy\n")


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("#!/usr/bin/env python\nx\n", "#!/usr/bin/env python"),
        ("# -*- coding: utf-8 -*-\nx\n", "# -*- coding: utf-8 -*-"),
        ("%%time\nx\n", "%%time"),
        ("%%time", "%%time"),
    ],
)
def test_what_has_to_be_first_stays_first(text: str, first: str) -> None:
    lines = blocks.written(text, ["numpy"]).splitlines()
    assert lines[:2] == [first, "# /// script"]


def test_a_block_keeps_its_comments_and_its_other_tables() -> None:
    new = blocks.written(f"{BLOCK}print()\n", ["Numpy>=2", "torch"])
    assert read(new) == {
        "requires-python": ">=3.11",
        "dependencies": ["Numpy>=2", "pandas ; sys_platform == 'linux'", "torch"],
        "tool": {"uv": {"dependencies": ["not these"]}},
    }
    assert '#   "Numpy>=2",  # for the arrays\n' in new
    assert new.endswith("# ///\nprint()\n")


def test_a_requirement_for_other_machines_is_another_one() -> None:
    new = blocks.written(BLOCK, ["pandas>=2", "pandas>=3 ; sys_platform == 'linux'"])
    assert read(new)["dependencies"] == [
        "numpy<3",
        "pandas>=3 ; sys_platform == 'linux'",
        "pandas>=2",
    ]


def test_what_is_there_changes_nothing() -> None:
    assert blocks.written(BLOCK, ["numpy<3"]) == BLOCK


@pytest.mark.parametrize(
    "toml",
    [
        "",
        "# [tool.uv]\n# x = 1\n",
        '# dependencies = ["old"]\n',
        '# dependencies = ["old", # ]\n# ]\n',
    ],
)
def test_lists_of_every_form_can_be_added_to(toml: str) -> None:
    before = f"# /// script\n{toml or '#'}\n# ///\n".replace("\n\n", "\n")
    was = read(before)
    new = read(blocks.written(before, ["new"]))
    assert new.pop("dependencies") == [*was.pop("dependencies", []), "new"]  # type: ignore[misc]
    assert new == was


def test_another_cells_block_is_carried_over() -> None:
    inside = blocks.body(BLOCK)
    new = blocks.written("%zs_install\n", ["torch"], inside)
    assert read(new)["tool"] == {"uv": {"dependencies": ["not these"]}}
    assert new.endswith("# ///\n%zs_install\n")


@pytest.mark.parametrize(
    "spec", ["-e .", "./here", "--pre", "https://example.org/a.whl", "", "a b"]
)
def test_what_a_block_cannot_hold_is_refused(spec: str) -> None:
    with pytest.raises(RequirementError, match="cannot be kept"):
        blocks.written("", [spec])


@pytest.mark.parametrize("spec", ["a", "a[b,c]>=1", "a @ https://example.org/a.whl", "a(>=1)"])
def test_what_a_block_can_hold_is_kept(spec: str) -> None:
    assert read(blocks.written("", [spec]))["dependencies"] == [spec]


NAMES = st.from_regex(r"[a-z]([a-z0-9_.-]{0,5}[a-z0-9])?", fullmatch=True)
LITERALS = st.builds(
    lambda name, tail, quote: (f"{name}{tail}", f"{quote}{name}{tail}{quote}"),
    NAMES,
    st.sampled_from(["", ">=1", "[x]", " ; python_version > '3'", "!=1,<2"]),
    st.sampled_from(['"']),
)


@given(
    st.lists(LITERALS, unique_by=lambda each: each[0].partition(">")[0], max_size=4),
    st.lists(NAMES, min_size=1, max_size=3),
    st.sampled_from(["\n    ", "\n", " "]),
    st.sampled_from(["", ","]),
    st.sampled_from(["", "[tool.x]\ny = [']']\n"]),
)
def test_every_addition_is_read_back(
    have: list[tuple[str, str]], new: list[str], gap: str, last: str, tail: str
) -> None:
    items = f",{gap}".join(literal for _, literal in have) + (last if have else "")
    toml = f"name = 'a]'\ndependencies = [{gap}{items}{gap}]\n{tail}"
    text = "# /// script\n" + "".join(f"# {line}\n" for line in toml.splitlines()) + "# ///\nx\n"
    found = read(blocks.written(text, new))
    expected = tomllib.loads(toml)
    listed = found.pop("dependencies")
    expected.pop("dependencies")
    assert found == expected
    assert isinstance(listed, list)
    assert set(new) <= set(listed)
    kept = {name for name, _ in have} - set(listed)
    normal = {each.replace("_", "-").replace(".", "-") for each in new}
    for gone in kept:  # only what was named again
        stem = gone.partition(" ")[0].split(">")[0].split("[")[0].split("!")[0]
        assert any(each.strip("-") in stem.replace("_", "-").replace(".", "-") for each in normal)
