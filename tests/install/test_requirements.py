from __future__ import annotations

import json
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerostart_jupyter.core.errors import RequirementError
from zerostart_jupyter.install import tables
from zerostart_jupyter.install.requirements import Request, gather, script_request

BLOCK = '# /// script\n# dependencies = ["a>=1", "b"]\n# requires-python = ">=3.8"\n# ///\n'
PROJECT = '[project]\nname = "x"\nversion = "1"\ndependencies = ["six"]\n'


def test_arguments_and_files_go_together(tmp_path: Path) -> None:
    file = tmp_path / "r.txt"
    file.write_text("six\n")
    found = gather(["torch", " numpy>=2 "], files=[file])
    assert found.specs == ("torch", "numpy>=2")
    assert found.files == (file,)
    assert found.title == "torch, numpy>=2, r.txt"


def test_a_cell_is_lines_without_comments() -> None:
    found = gather(
        ["first"], text="# what I need\ntorch\n\nx @ https://h/x#sha256=1  # why\n-r r.txt\n"
    )
    assert found.specs == ("first", "torch", "x @ https://h/x#sha256=1", "-r r.txt")
    assert found.origin == "the cell"


def test_a_cell_may_be_a_script_block() -> None:
    assert gather(text=BLOCK).specs == ("a>=1", "b")
    assert gather(text=BLOCK.rstrip("\n")).specs == ("a>=1", "b")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BLOCK + BLOCK, "several"),
        ("# /// script\n# dependencies = [\n# ///\n", "not TOML"),
        ("# /// script\n# dependencies = 3\n# ///\n", "not a list"),
        ('# /// script\n# requires-python = ">=99"\n# ///\n', "needs Python >=99"),
        ('# /// script\n# requires-python = "no"\n# ///\n', "cannot be read"),
    ],
)
def test_blocks_that_make_no_sense_are_refused(text: str, reason: str) -> None:
    with pytest.raises(RequirementError, match=reason):
        gather(text=text)


def test_the_notebooks_own_cell_comes_first(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("six\n")
    notebook = tmp_path / "n.ipynb"
    cells = [
        {"cell_type": "markdown", "source": BLOCK},
        {"cell_type": "code", "source": "x = 1"},
        {"cell_type": "code", "source": BLOCK.splitlines(keepends=True)},
    ]
    notebook.write_text(json.dumps({"cells": cells}))
    assert gather(start=tmp_path, notebook=notebook).specs == ("a>=1", "b")
    notebook.write_text("not json")
    assert gather(start=tmp_path, notebook=notebook).files == (tmp_path / "requirements.txt",)


def test_files_are_found_upwards_the_nearest_first(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / "requirements.txt").write_text("six\n")
    assert gather(start=below).files == (tmp_path / "requirements.txt",)
    (tmp_path / "pyproject.toml").write_text("[tool.ruff]\n")
    assert gather(start=below).files == (tmp_path / "requirements.txt",)
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    assert gather(start=below).files == (tmp_path / "pyproject.toml",)
    (tmp_path / "a" / "requirements.txt").write_text("six\n")
    assert gather(start=below).files == (tmp_path / "a" / "requirements.txt",)


def test_a_scripts_block_comes_before_its_project(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    script = tmp_path / "s.py"
    script.write_text("import six\n")
    assert gather(start=script).files == (tmp_path / "pyproject.toml",)
    script.write_text(BLOCK)
    assert gather(start=script).specs == ("a>=1", "b")


def test_a_block_with_tables_of_uvs_becomes_a_project_of_uvs(tmp_path: Path) -> None:
    block = (
        '# /// script\n# dependencies = ["a"]\n# [tool.other]\n# x = 1\n# [tool.uv]\n'
        '# find-links = ["./here", "https://h/x"]\n# exclude-newer = 2024-01-02T03:04:05Z\n'
        '# [tool.uv.sources]\n# a = { path = "../\u00e9" }\n# [[tool.uv.index]]\n'
        '# url = "https://h/simple"\n# explicit = true\n# ///\n'
    )
    script, notebook = tmp_path / "s.py", tmp_path / "n.ipynb"
    script.write_text(block)
    notebook.write_text(json.dumps({"cells": [{"cell_type": "code", "source": block}]}))
    for found in (
        script_request(script),
        gather(start=script),
        gather(start=tmp_path, notebook=notebook),
        gather(start=tmp_path, text=block),
        gather(start=tmp_path, executed=[block]),
    ):
        assert found is not None
        assert (found.specs, found.files, found.empty) == ((), (), False)
        assert found.project in "".join(found.parts())
        body = tomllib.loads(found.project)
        assert body["project"]["dependencies"] == ["a"]
        assert body["tool"]["uv"] == {
            "find-links": [str(tmp_path / "here"), "https://h/x"],
            "exclude-newer": datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC),
            "sources": {"a": {"path": str(tmp_path / "../\u00e9")}},
            "index": [{"url": "https://h/simple", "explicit": True}],
        }
        assert (found.index.named, found.index.names_default) == (("https://h/simple",), False)


def test_a_block_with_tables_of_others_is_a_plain_one() -> None:
    found = gather(text='# /// script\n# dependencies = ["a"]\n# [tool.black]\n# x = 1\n# ///\n')
    assert (found.specs, found.project) == (("a",), "")


def test_settings_around_a_block_still_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UV_NO_CONFIG")
    block = (
        '# /// script\n# [[tool.uv.index]]\n# url = "https://own/simple"\n'
        '# [tool.uv]\n# prerelease = "allow"\n# ///\n'
    )
    (tmp_path / "pyproject.toml").write_text(
        '[tool.uv]\nprerelease = "disallow"\nno-build = true\n'
        'index = [{ url = "packages" }]\nsources = { a = { path = "a" } }\n'
    )
    below = tmp_path / "below"
    below.mkdir()
    found = tomllib.loads(gather(start=below, text=block).project)["tool"]["uv"]
    assert found == {
        "prerelease": "allow",
        "no-build": True,
        "index": [{"url": "https://own/simple"}, {"url": str(tmp_path / "packages")}],
    }
    other = tmp_path / "uv.toml"
    other.write_text("offline = true\n")
    monkeypatch.setenv("UV_CONFIG_FILE", str(other))
    found = tomllib.loads(gather(start=below, text=block).project)["tool"]["uv"]
    assert found == {
        "offline": True,
        "prerelease": "allow",
        "index": [{"url": "https://own/simple"}],
    }


@given(
    st.recursive(
        st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(codec="utf-8")),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner)
        ),
    )
)
def test_what_is_written_for_uv_is_read_as_it_was(value: object) -> None:
    assert tomllib.loads(f"x = {tables._toml(value)}") == {"x": value}


def test_nothing_found_says_where_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "is_file", lambda self: False)
    with pytest.raises(RequirementError, match="Nothing was named") as caught:
        gather(start=tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(RequirementError, match="no requirements file"):
        gather(files=[tmp_path / "none.txt"])
    (tmp_path / "pyproject.toml").write_text("[project")
    with pytest.raises(RequirementError, match="cannot be read"):
        gather(start=tmp_path)


def test_the_answer_depends_on_all_that_is_included(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("-r deep.txt\n-c limits.txt\n-r r.txt\n")
    (tmp_path / "deep.txt").write_text("six\n")
    (tmp_path / "limits.txt").write_text("six<2\n")
    request = gather(files=[tmp_path / "r.txt"])
    before = request.parts()
    (tmp_path / "limits.txt").write_text("six<1\n")
    assert request.parts() != before
    (tmp_path / "deep.txt").unlink()
    with pytest.raises(RequirementError, match=r"deep\.txt"):
        request.parts()


def test_extras_are_found_in_every_line() -> None:
    found = Request(("My_Pkg[Fast, extra_one]>=1", "b")).extras()
    assert found == {"my-pkg": {"fast", "extra-one"}}


def test_titles_stay_short() -> None:
    assert Request(tuple("abcde")).title == "a, b, c and 2 more"
    assert Request().title == "nothing"
