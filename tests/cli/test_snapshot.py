from __future__ import annotations

import json
from pathlib import Path

import pytest

from zerostart_jupyter.cli.main import main
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.snapshot.catalog import Catalog, fresh_id
from zerostart_jupyter.snapshot.manifest import Manifest


@pytest.fixture(autouse=True)
def one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A cache with a snapshot `one`, saved from `a.ipynb`; returns its id."""
    monkeypatch.setenv("ZEROSTART_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    catalog, key = Catalog(Settings.read()), fresh_id()
    about = {"name": "one", "tier": "process", "notebook": "a.ipynb", "bytes": 3 << 20}
    with catalog.reserve("one"), catalog.publish(key, about) as directory:
        Manifest(
            id=key, pid=7, last_pid=9, channel={}, criu="4.2.1", sockets=("10.0.0.1:80",)
        ).write(directory)
    return key


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["snapshot", *words]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    return said.out


def test_the_list(capsys: pytest.CaptureFixture[str], one: str) -> None:
    (found,) = json.loads(printed(capsys, "list", "--json"))
    assert found["id"] == one
    assert {"name", "tier", "created", "notebook", "bytes", "gpu_bytes", "parent"} <= set(found)
    line = printed(capsys, "list")
    assert "3.0 MiB" in line
    assert line.rstrip().endswith("a.ipynb")


def test_an_empty_list_says_how_to_begin(capsys: pytest.CaptureFixture[str]) -> None:
    printed(capsys, "delete", "one")
    assert "%zs_snapshot save NAME" in printed(capsys, "list")
    assert json.loads(printed(capsys, "list", "--json")) == []


def test_one_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(printed(capsys, "show", "one", "--json"))
    assert found["criu"] == "4.2.1"
    assert found["sockets"] == ["10.0.0.1:80"]
    assert "10.0.0.1:80" in printed(capsys, "show", "one")


def test_rename_publish_and_delete(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    printed(capsys, "rename", "one", "two")
    body = json.loads(printed(capsys, "publish", "two", "--json"))
    assert body["kernelspec"] == "zerostart-two"
    assert (Path(body["path"]) / "kernel.json").exists()
    assert json.loads(printed(capsys, "delete", "two", "--json"))["name"] == "two"
    assert not Path(body["path"]).exists()
    assert list((tmp_path / "cache" / "snapshots").iterdir()) == []


@pytest.mark.parametrize("action", ["show", "delete", "publish", "verify", "clone"])
def test_an_unknown_name_is_one_line(capsys: pytest.CaptureFixture[str], action: str) -> None:
    assert main(["snapshot", action, "nothing"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "zerostart snapshot: There is no snapshot 'nothing'. There are: one.\n"


def test_without_an_action_it_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["snapshot"])


def test_out_to_a_file_and_in_again(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = str(tmp_path / "one.zsnap")
    sent = json.loads(printed(capsys, "export", "one", file, "--json"))
    assert {"name", "path", "bytes", "sent", "seconds"} == set(sent)
    assert main(["snapshot", "import", file]) == 1
    assert "already a snapshot 'one'" in capsys.readouterr().err
    assert "--trust" in printed(capsys, "import", file, "two")
    assert not json.loads(printed(capsys, "show", "two", "--json"))["trusted"]
    assert "--trust" not in printed(capsys, "import", file, "three", "--trust")
    (tmp_path / "one.zsnap").write_bytes(b"other")
    assert main(["snapshot", "import", file, "four"]) == 1
    assert "no export that can be imported" in capsys.readouterr().err


def test_what_is_collected_and_what_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    printed(capsys, "pin", "one")
    assert "no snapshot" in printed(capsys, "gc", "--keep-gb", "0")
    printed(capsys, "unpin", "one")
    assert "Would remove one: 3.0 MiB" in printed(capsys, "gc", "--keep-gb", "0", "--dry-run")
    (gone,) = json.loads(printed(capsys, "gc", "--keep-gb", "0", "--json"))
    assert gone["name"] == "one"
    assert json.loads(printed(capsys, "list", "--json")) == []


def test_the_list_tells_what_a_restore_saves(capsys: pytest.CaptureFixture[str], one: str) -> None:
    Catalog(Settings.read()).amend(one, kernel_seconds=75.0)
    assert "~0.30 s instead of 1 min 15 s" in printed(capsys, "list")
