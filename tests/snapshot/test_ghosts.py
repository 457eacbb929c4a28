from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.snapshot.kernels import Cells, Kernel
from zerostart_jupyter import snapshot
from zerostart_jupyter.snapshot import images

pytestmark = pytest.mark.criu

DELETED = """
file = open({path!r}, 'w+')
file.write('still here'); file.flush()
import os; os.unlink({path!r})
z.snapshot('one')
"""


def read(clone: snapshot.Clone) -> str:
    client = clone.client()
    try:
        return Cells(client).run("file.seek(0); file.read()")
    finally:
        client.stop_channels()
        clone.shutdown()


def test_clones_at_the_same_moment_each_have_the_deleted_file(
    python: Kernel, tmp_path: Path
) -> None:
    python.run(DELETED.format(path=str(tmp_path / "deleted")))
    with ThreadPoolExecutor(4) as pool:
        made = [each.result() for each in [pool.submit(snapshot.clone, "one") for _ in range(4)]]
    assert list(map(read, made)) == ["'still here'"] * 4
    assert not list(tmp_path.glob("*.ghost"))


def test_what_a_restore_that_was_killed_left_is_in_nobodys_way(
    python: Kernel, tmp_path: Path
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    python.run(DELETED.format(path=str(folder / "deleted")))
    names = images.ghosts(snapshot.show("one").images)
    (ghost,) = [each for each in names if each.parent == folder]
    for place in (folder, tmp_path):  # the second is where it goes when the first is gone
        (place / ghost.name).write_text("of another restore")
        assert read(snapshot.clone("one")) == "'still here'"
        assert not (place / ghost.name).exists()
        if place == folder:
            folder.rmdir()
