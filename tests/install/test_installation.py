from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.install.conftest import Bring, leftovers, publish
from tests.install.wheels import make, noise
from tests.patience import PATIENCE
from tests.servers.index import Behaviour, Index
from zerostart_jupyter.core.activity import Activity
from zerostart_jupyter.core.errors import (
    Cancelled,
    DigestMismatch,
    NetworkError,
    RequirementError,
    ResolveError,
)
from zerostart_jupyter.core.events import Event, Hub, State
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.install import IndexOptions, gather, install, plan
from zerostart_jupyter.install.gate import gate


def test_what_was_asked_for_can_be_imported(bring: Bring, index: Index) -> None:
    publish(index, make("zs-alpha", requires=["zs-beta>=1"]), make("zs-beta", "1.5"))
    found = bring("zs-alpha")
    assert found.done
    assert not found.warm
    assert found.distributions == [("zs-alpha", "1.0"), ("zs-beta", "1.5")]
    assert found.bytes_downloaded == sum(len(wheel.data) for wheel in index.wheels.values())
    module = importlib.import_module("zs_alpha")
    assert module.NAME == "zs-alpha"
    assert Path(str(module.__file__)).is_relative_to(found.site_packages)
    assert importlib.metadata.version("zs.beta") == "1.5"


def test_a_second_time_is_warm_and_asks_nobody(
    bring: Bring, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(index, make("zs-again"))
    first = bring("zs-again")
    asked = index.requests.total()
    monkeypatch.setattr(subprocess, "Popen", None)  # neither uv
    second = bring("zs-again")
    assert second.warm
    assert second.done
    assert second.environment == first.environment
    assert index.requests.total() == asked  # nor the index


def test_a_new_environment_takes_wheels_from_the_store(bring: Bring, index: Index) -> None:
    publish(index, make("zs-one"), make("zs-two"))
    first = bring("zs-one")
    second = bring("zs-one", "zs-two")
    assert second.bytes_downloaded == len(index.wheels["zs_two-1.0-py3-none-any.whl"].data)
    here, there = (each.site_packages / "zs_one.py" for each in (first, second))
    assert here.samefile(there)


def test_files_are_copied_where_links_are_not_wanted(
    bring: Bring, index: Index, settings: Settings
) -> None:
    publish(index, make("zs-copied"))
    found = bring("zs-copied", settings=settings.with_(no_shared_cache=True))
    assert (found.site_packages / "zs_copied.py").stat().st_nlink == 1


def test_subprocesses_see_the_environment(bring: Bring, index: Index) -> None:
    points = "[console_scripts]\nzs-tool = zs_tool:main\n"
    files = {"zs_tool.py": b"def main():\n    print('from the tool')\n"}
    publish(index, make("zs-tool", files=files, entry_points=points))
    bring("zs-tool")
    said = subprocess.run(["zs-tool"], capture_output=True, text=True, check=True)
    assert said.stdout == "from the tool\n"
    code = "import zs_tool; zs_tool.main()"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "from the tool\n"


def test_every_part_of_a_wheel_gets_its_place(bring: Bring, index: Index) -> None:
    stem = "zs_parts-1.0"
    files = {
        "zs_parts/__init__.py": b"",
        "zs_parts/run": b"#!/bin/sh\n",
        f"{stem}.data/purelib/zs_pure.py": b"",
        f"{stem}.data/platlib/zs_plat.py": b"",
        f"{stem}.data/scripts/zs-script": b"#!python\nimport sys, zs_pure\nprint(sys.prefix)\n",
        f"{stem}.data/data/share/zs/text": b"shared",
        f"{stem}.data/headers/zs.h": b"",
    }
    publish(index, make("zs-parts", files=files, executable=["zs_parts/run"]))
    found = bring("zs-parts")
    site = found.site_packages
    assert (site / "zs_pure.py").is_file()
    assert (site / "zs_plat.py").is_file()
    assert os.access(site / "zs_parts" / "run", os.X_OK)
    assert not os.access(site / "zs_pure.py", os.X_OK)
    assert (found.environment / "share/zs/text").read_bytes() == b"shared"
    assert list((found.environment / "include").rglob("zs.h"))
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    said = subprocess.run(
        [found.bin / "zs-script"], capture_output=True, text=True, check=True, env=clean
    )
    assert said.stdout.strip() == str(found.environment)
    files_ = importlib.metadata.distribution("zs-parts").files
    assert files_ is not None
    assert all(path.locate().exists() for path in files_)


def test_large_wheels_come_in_segments(bring: Bring, index: Index, settings: Settings) -> None:
    body = noise(5 << 20)
    publish(index, make("zs-large", files={"zs_large/__init__.py": b"", "zs_large/blob": body}))
    found = bring("zs-large")
    assert (found.site_packages / "zs_large/blob").read_bytes() == body
    asked = [wanted or "" for path, wanted in index.ranges if path.startswith("/files/")]
    assert len([wanted for wanted in asked if wanted.startswith("bytes=")]) >= 5


def test_memory_for_a_wheel_is_bounded_by_the_window(
    bring: Bring, index: Index, settings: Settings
) -> None:
    """A window smaller than the wheel: back-pressure, and no standstill."""
    files = {f"zs_window/{n}": noise(700_000, n) for n in range(12)} | {
        "zs_window/__init__.py": b""
    }
    publish(index, make("zs-window", files=files))
    found = bring("zs-window", settings=settings.with_(window_mb=1))
    assert (found.site_packages / "zs_window/11").read_bytes() == noise(700_000, 11)


def test_imports_wait_for_their_own_package_only(bring: Bring, index: Index) -> None:
    slow = make("zs-slow", files={"zs_slow/__init__.py": b"", "zs_slow/blob": noise(3 << 20)})
    publish(index, slow, make("zs-quick", requires=["zs-dep"]), make("zs-dep"))
    held = index.behaviour[slow.filename] = Behaviour(hold=threading.Event())
    found = bring("zs-slow", "zs-quick", wait=False)
    assert importlib.import_module("zs_quick").NAME == "zs-quick"
    assert importlib.metadata.version("zs-dep") == "1.0"
    assert not found.done
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("zs_nowhere_at_all")
    assert held.hold is not None
    held.hold.set()
    assert importlib.import_module("zs_slow").__file__
    found.wait(PATIENCE)
    assert not gate.pending


def test_an_import_waits_until_its_bytes_are_here(bring: Bring, index: Index) -> None:
    late = make(
        "zs-late", files={"zs_late/__init__.py": b"X = 1\n", "zs_late/blob": noise(3 << 20)}
    )
    publish(index, late)
    held = index.of(late)
    held.hold = threading.Event()
    found = bring("zs-late", wait=False)
    seen: list[int] = []
    reader = threading.Thread(target=lambda: seen.append(importlib.import_module("zs_late").X))
    reader.start()
    reader.join(0.3)
    assert reader.is_alive()
    assert not seen
    import wave  # another import is not held up by one that waits

    assert wave
    held.hold.set()
    reader.join(PATIENCE)
    assert seen == [1]
    found.wait(PATIENCE)


def test_a_failure_reaches_every_import_that_waits(bring: Bring, index: Index) -> None:
    lost = make("zs-lost", files={"zs_lost/__init__.py": b"", "zs_lost/blob": noise(3 << 20)})
    publish(index, lost)
    index.of(lost).hold = threading.Event()
    found = bring("zs-lost", wait=False)
    errors: list[BaseException] = []

    def load() -> None:
        try:
            importlib.import_module("zs_lost")
        except BaseException as error:
            errors.append(error)

    reader = threading.Thread(target=load)
    reader.start()
    found.cancel()
    reader.join(PATIENCE)
    assert isinstance(errors[0], Cancelled)
    with pytest.raises(Cancelled):
        found.wait(PATIENCE)
    again = bring("zs-lost", wait=False)
    index.of(lost).hold = None
    again.wait(PATIENCE)
    assert importlib.import_module("zs_lost").__file__


def test_progress_adds_up(bring: Bring, index: Index) -> None:
    wheels = [make("zs-p1"), make("zs-p2", files={"zs_p2.py": b"", "zs_p2.bin": noise(2 << 20)})]
    publish(index, *wheels)
    index.of(wheels[1]).pace = 4 << 20
    seen: list[Event] = []
    hub = Hub(interval=0.005)
    hub.subscribe(seen.extend)
    bring("zs-p1", "zs-p2", hub=hub)
    (view,) = Activity().fold(seen).operations.values()
    assert (view.kind, view.state, view.unit) == ("install", State.DONE, "bytes")
    one, two = (len(wheel.data) for wheel in wheels)
    assert view.done == view.total == one + two
    told = {event.total for event in seen if event.item == ""}
    assert told <= {None, one, two, one + two}, "a total that grew with what had arrived"
    assert {item.name: item.state for item in view.items} == {
        "zs-p1": State.DONE,
        "zs-p2": State.DONE,
    }


def test_cancel_stops_it_and_the_next_run_goes_on(bring: Bring, index: Index) -> None:
    wheel = make("zs-stop", files={"zs_stop.py": b"", "zs_stop.bin": noise(3 << 20)})
    publish(index, wheel)
    index.of(wheel).hold = threading.Event()
    hub = Hub()
    found = bring("zs-stop", wait=False, hub=hub)
    (operation,) = {event.operation for event in hub.known() if event.kind == "install"}
    assert hub.cancel(operation)
    with pytest.raises(Cancelled):
        found.wait(PATIENCE)
    index.of(wheel).hold = None
    assert bring("zs-stop").done


def test_a_wrong_hash_is_refused_and_leaves_nothing(
    bring: Bring, index: Index, store: Store
) -> None:
    good = make("zs-hash")
    publish(index, good)
    index.wrong_hash.add(good.filename)
    with pytest.raises(DigestMismatch, match="zs_hash"):
        bring("zs-hash")
    assert leftovers(store) == []


def test_unknown_packages_are_named(bring: Bring, index: Index, store: Store) -> None:
    with pytest.raises(ResolveError, match="zs-unknown") as caught:
        bring("zs-unknown")
    assert "spelling" in caught.value.remedy
    assert "\n" not in str(caught.value)
    assert leftovers(store) == []


def test_impossible_versions_say_why(bring: Bring, index: Index) -> None:
    publish(index, make("zs-old"))
    with pytest.raises(ResolveError, match="zs-old>=2"):
        bring("zs-old>=2")


def test_nonsense_is_a_requirement_error(bring: Bring) -> None:
    with pytest.raises(RequirementError, match="=>"):
        bring("zs-x=>3")


def test_no_network_is_one_line(settings: Settings, store: Store) -> None:
    with Index() as gone:
        url = gone.url
    request = gather(["zs-any"], index=IndexOptions(index_url=url))
    with pytest.raises(NetworkError, match=r"http://127\.0\.0\.1") as caught:
        install(request=request, settings=settings, hub=Hub())
    assert "\n" not in str(caught.value)
    assert leftovers(store) == []


def test_a_file_that_is_gone_is_named(bring: Bring, index: Index, store: Store) -> None:
    wheel = make("zs-gone")
    publish(index, wheel)
    bring("zs-gone")  # the answer is remembered
    for room in ("environments", "wheels"):
        for entry in store.entries(room):
            import shutil

            shutil.rmtree(entry.path)
    index.wheels.clear()
    with pytest.raises(NetworkError, match="404"):
        bring("zs-gone")


def test_a_plan_fetches_nothing(index: Index, settings: Settings) -> None:
    publish(index, make("zs-plan"))
    request = gather(["zs-plan"], index=IndexOptions(index_url=index.url))
    before = plan(request, settings=settings)
    assert not before.warm
    assert [each.name for each in before.missing] == ["zs-plan"]
    assert "zs-plan" in before.table()
    install(request=request, settings=settings, hub=Hub(), activate=False)
    after = plan(request, settings=settings)
    assert after.warm
    assert after.missing == ()
    assert after.environment == before.environment


def test_sources_are_built(bring: Bring, index: Index, tmp_path: Path) -> None:
    project = tmp_path / "zs-source"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "zs-source"\nversion = "3.0"\n'
    )
    wheel = make("zs-source", "3.0")
    (project / wheel.filename).write_bytes(wheel.data)
    (project / "backend.py").write_text(
        "import shutil\n"
        "def build_wheel(folder, config_settings=None, metadata_directory=None):\n"
        f"    shutil.copy({wheel.filename!r}, folder)\n"
        f"    return {wheel.filename!r}\n"
    )
    found = bring(f"zs-source @ {project.as_uri()}")
    assert found.distributions == [("zs-source", "3.0")]
    assert importlib.import_module("zs_source").NAME == "zs-source"


def test_find_links_need_no_index(settings: Settings, tmp_path: Path) -> None:
    wheel = make("zs-linked")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / wheel.filename).write_bytes(wheel.data)
    options = IndexOptions(no_index=True, find_links=(str(tmp_path / "links"),))
    found = install(request=gather(["zs-linked"], index=options), settings=settings, hub=Hub())
    assert (found.site_packages / "zs_linked.py").is_file()


def test_pips_find_links_are_ours(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = make("zs-pips")
    (tmp_path / wheel.filename).write_bytes(wheel.data)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    found = install("zs-pips", settings=settings, hub=Hub())
    assert (found.site_packages / "zs_pips.py").is_file()


def test_an_edited_file_in_the_store_is_noticed(bring: Bring, index: Index, store: Store) -> None:
    publish(index, make("zs-edit"), make("zs-more"))
    first = bring("zs-edit")
    (first.site_packages / "zs_edit.py").write_text("NAME = 'edited'\n")  # through the hardlink
    second = bring("zs-edit", "zs-more")
    assert (second.site_packages / "zs_edit.py").read_text() == "NAME = 'zs-edit'\n"


def test_two_processes_make_one_environment_once(index: Index, settings: Settings) -> None:
    wheel = make("zs-both", files={"zs_both.py": b"", "zs_both.bin": noise(3 << 20)})
    publish(index, wheel)
    index.of(wheel).pace = 2 << 20
    code = (
        "import sys, json; from pathlib import Path\n"
        "from zerostart_jupyter.core.settings import Settings\n"
        "from zerostart_jupyter.install import *\n"
        "r = gather(['zs-both'], index=IndexOptions(index_url=sys.argv[1]))\n"
        "i = install(request=r, settings=Settings.read(cache=Path(sys.argv[2]), chunk_mb=1))\n"
        "import zs_both; print(json.dumps(i.as_json()))\n"
    )
    command = [sys.executable, "-c", code, index.url, str(settings.cache)]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, env=environ) for _ in range(2)]
    said = [json.loads(each.communicate(timeout=PATIENCE)[0]) for each in both]
    assert [each.returncode for each in both] == [0, 0]
    assert said[0]["environment"] == said[1]["environment"]
    assert sum(each["bytes_downloaded"] for each in said) == len(wheel.data)  # never twice


def test_forked_children_wait_for_markers(bring: Bring, index: Index) -> None:
    wheel = make("zs-fork", files={"zs_fork.py": b"X = 5\n", "zs_fork.bin": noise(3 << 20)})
    publish(index, wheel)
    index.of(wheel).hold = threading.Event()
    found = bring("zs-fork", wait=False)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, str(importlib.import_module("zs_fork").X).encode())
        finally:
            os._exit(0)
    os.close(write)
    hold = index.of(wheel).hold
    assert hold is not None
    hold.set()
    found.wait(PATIENCE)
    assert os.read(read, 10) == b"5"
    os.waitpid(child, 0)
    os.close(read)
