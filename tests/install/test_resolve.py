from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from tests.install.conftest import publish
from tests.install.test_builds import source
from tests.install.wheels import Wheel, make
from tests.servers.index import Index, serving
from zerostart_jupyter.core.errors import (
    InstallError,
    NetworkError,
    RequirementError,
    ResolveError,
)
from zerostart_jupyter.core.events import Hub
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.install import IndexOptions, answers, gather, install, plan, resolve

SAID = {
    "unknown": (
        "error: No solution found when resolving dependencies\n"
        "  cause: Because torhc was not found in the package registry and you require torhc, we "
        "can conclude that your requirements are unsatisfiable.\n",
        ResolveError,
        "No index has a package named torhc",
    ),
    "versions": (
        "error: No solution found when resolving dependencies\n"
        "  cause: Because there is no version of numpy==99 and you require numpy==99, we can\n"
        "         conclude that your requirements are unsatisfiable.\n",
        ResolveError,
        "there is no version of numpy==99",
    ),
    "offline": (
        "error: No solution found\n  cause: Because x was not found in the cache and you require "
        "x.\n\nhint: Packages were unavailable because the network was disabled.\n",
        ResolveError,
        "cannot be resolved offline",
    ),
    "network": (
        "error: Request failed after 3 retries in 4.9s\n  cause: Failed to fetch: "
        "https://me:secret@host.example/simple/six/\n  cause: Connection refused (os error 111)\n",
        NetworkError,
        "Connection refused",
    ),
    "syntax": (
        "error: Couldn't parse requirement in `-` at position 0\n  cause: no such comparison "
        "operator\n         six=>3\n            ^^\n",
        RequirementError,
        "no such comparison operator",
    ),
    "silence": ("", ResolveError, "Nothing satisfies"),
}


@pytest.mark.parametrize("what", SAID)
def test_uvs_words_become_one_line_with_a_remedy(what: str) -> None:
    text, kind, part = SAID[what]
    error = resolve.explain(text, gather(["six"]))
    assert type(error) is kind
    assert part in str(error)
    assert "\n" not in str(error)
    assert "secret" not in str(error)
    assert error.remedy


def test_a_missing_uv_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "uv", None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InstallError, match="uv") as caught:
        resolve.find_uv()
    assert "pip install uv" in caught.value.remedy


BLOCKS = {
    "a default index": '[[tool.uv.index]]\nurl = "{own}"\ndefault = true\n',
    "an index in the old form": '[tool.uv]\nindex-url = "{own}"\n',
    "an index of a package": (
        '[[tool.uv.index]]\nname = "own"\nurl = "{own}"\nexplicit = true\n'
        '[tool.uv.sources]\nzs-own = {{ index = "own" }}\n'
    ),
    "an index besides": '[[tool.uv.index]]\nurl = "{own}"\n',
    "a folder of files": '[tool.uv]\nno-index = true\nfind-links = ["files"]\n',
}


@pytest.mark.parametrize("what", BLOCKS)
@pytest.mark.parametrize("form", ["cell", "notebook", "script"])
def test_a_block_that_names_its_index_is_not_answered_by_another(
    what: str,
    form: str,
    index: Index,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Dependency confusion: somebody has published the same name, with a higher version."""
    own = make("zs-own", "1.0")
    publish(index, make("zs-own", "9.0"))
    monkeypatch.setenv("PIP_INDEX_URL", index.url)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / own.filename).write_bytes(own.data)
    with serving(own) as private:
        table = f'dependencies = ["zs-own"]\n{BLOCKS[what].format(own=private.url)}'
        block = "# /// script\n" + "".join(f"# {line}\n" for line in table.splitlines()) + "# ///\n"
        if form == "cell":
            request = gather(text=block, start=tmp_path)
        elif form == "script":
            (tmp_path / "s.py").write_text(block)
            request = gather(start=tmp_path / "s.py")
        else:
            cells = [{"cell_type": "code", "source": block}]
            (tmp_path / "n.ipynb").write_text(json.dumps({"cells": cells}))
            request = gather(start=tmp_path, notebook=tmp_path / "n.ipynb")
        found = plan(request, settings=settings, activate=False).lock
    assert [each.version for each in found.packages] == ["1.0"]
    assert "exclude" not in request.title
    assert index.requests == {}  # it is not even told the name


@pytest.mark.parametrize("form", ["wheel", "archive"])
def test_a_file_of_this_machine_that_changed_is_looked_at_again(
    form: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "_SETTLED", -(10**18))  # its times are those of this moment

    def write(text: bytes) -> str:
        wheel = make("zs-file", files={"zs_file.py": text})
        if form == "wheel":
            (tmp_path / wheel.filename).write_bytes(wheel.data)
            return f"./{wheel.filename}"
        return f"./{packed(tmp_path, wheel)}"

    def value(spec: str) -> str:
        request = gather([spec], start=tmp_path, index=IndexOptions(no_index=True))
        found = install(request=request, settings=settings, activate=False, hub=Hub())
        return (found.site_packages / "zs_file.py").read_text()

    spec = write(b"X = 1\n")
    assert value(spec) == "X = 1\n"
    with monkeypatch.context() as context:
        context.setattr(resolve, "find_uv", lambda: pytest.fail("it was asked again"))
        assert value(spec) == "X = 1\n"
    assert write(b"X = 2\n") == spec
    assert value(spec) == "X = 2\n"


def packed(folder: Path, wheel: Wheel) -> str:
    """The name of an archive of sources that builds this wheel."""
    inside = source(folder / "sources") if not (folder / "sources").exists() else folder / "sources"
    for old in inside.glob("*.whl"):
        old.unlink()
    (inside / wheel.filename).write_bytes(wheel.data)
    text = (inside / "pyproject.toml").read_text()
    (inside / "pyproject.toml").write_text(
        text.replace("zs-built", "zs-file").replace("3.0", "1.0")
    )
    with tarfile.open(folder / "zs_file-1.0.tar.gz", "w:gz") as archive:
        archive.add(inside, "zs_file-1.0")
    return "zs_file-1.0.tar.gz"


def test_an_answer_about_a_file_just_written_is_not_kept(
    settings: Settings, store: Store, tmp_path: Path
) -> None:
    wheel = make("zs-file")
    (tmp_path / wheel.filename).write_bytes(wheel.data)
    request = gather([f"./{wheel.filename}"], start=tmp_path, index=IndexOptions(no_index=True))
    plan(request, settings=settings, activate=False)
    assert store.entries("locked") == []
