from __future__ import annotations

import os
import time

from tests.install.conftest import Bring, publish
from tests.install.wheels import make
from tests.servers.index import Index
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.install import capabilities, installation
from zerostart_jupyter.install.inventory import inventory, prune


def test_environments_and_wheels_are_listed(bring: Bring, index: Index, store: Store) -> None:
    publish(index, make("zs-i1"), make("zs-i2"))
    bring("zs-i1", "zs-i2")
    found = inventory(store)
    assert [each.kind for each in found] == ["environment", "wheel", "wheel"]
    assert found[0].name == "zs-i1, zs-i2"
    assert all(each.bytes > 0 for each in found)


def test_what_is_in_use_is_kept_and_the_rest_goes(bring: Bring, index: Index, store: Store) -> None:
    publish(index, make("zs-i3"), make("zs-i4"))
    used = bring("zs-i3")
    unused = bring("zs-i4", activate=False)
    installation._leases.pop(str(unused.environment)).close()
    removed, freed = prune(store, days=0)
    assert used.environment.exists()
    assert not unused.environment.exists()
    assert [each.name for each in inventory(store)] == ["zs-i3", "zs_i3-1.0-py3-none-any.whl"]
    assert removed == 4  # an environment, its wheel, two answers
    assert freed > 0


def test_what_was_used_lately_is_kept(bring: Bring, index: Index, store: Store) -> None:
    publish(index, make("zs-i5"))
    found = bring("zs-i5")
    installation._leases.pop(str(found.environment)).close()
    assert prune(store, days=1) == (0, 0)
    long_ago = time.time() - 3 * 86400
    os.utime(found.environment / ".zerostart" / "used", (long_ago, long_ago))
    prune(store, days=1)
    assert not found.environment.exists()


def test_the_doctor_knows_uv_cache_links_room_and_index(settings: Settings) -> None:
    found = {each.name: each for each in capabilities(settings)}
    known = {"uv", "package cache", "hardlinks", "disk space", "package index", "system CUDA"}
    assert set(found) == known
    assert found["uv"].ok
    assert found["hardlinks"].ok
    blocked = settings.with_(cache=settings.cache / "file" / "below")
    settings.cache.mkdir(exist_ok=True)
    (settings.cache / "file").write_text("in the way")
    broken = {each.name: each for each in capabilities(blocked)}
    assert not broken["package cache"].ok
    assert broken["package cache"].remedy
