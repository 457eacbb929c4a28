from __future__ import annotations

import json
import os
import time
from typing import Any

import pytest

from tests.install.conftest import Bring, publish
from tests.install.wheels import make
from tests.servers.index import Index
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.install import (
    capabilities,
    destination,
    environment,
    installation,
    linking,
)
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


def test_what_is_handed_out_without_being_put_on_the_path_is_kept_too(
    bring: Bring, index: Index, store: Store
) -> None:
    """`zerostart install` every day, say."""
    publish(index, make("zs-i6"))
    found = bring("zs-i6", activate=False)
    installation._leases.pop(str(found.environment)).close()
    long_ago = time.time() - 40 * 86400
    marker = found.environment / "entry.json"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "created": long_ago}))
    bring("zs-i6", activate=False)
    installation._leases.pop(str(found.environment)).close()
    prune(store, days=30)
    assert found.environment.exists()
    os.utime(found.environment / ".zerostart" / "used", (long_ago, long_ago))
    prune(store, days=30)
    assert not found.environment.exists()


@pytest.mark.parametrize("when", ["looked up", "its files", "half of its files", "its scripts"])
def test_a_wheel_that_is_pruned_while_it_is_linked_is_fetched_again(
    when: str, bring: Bring, index: Index, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = make("zs-i7", entry_points="[console_scripts]\nzs-i7 = zs_i7:main\n")
    publish(index, wheel, make("zs-i8"))
    first = bring("zs-i7", activate=False)  # another environment will want the wheel, too
    place = {
        "looked up": (destination.Destination, "tell"),
        "its files": (linking, "link"),
        "half of its files": (linking, "link"),
        "its scripts": (environment.Environment, "_finish"),
    }[when]
    true = getattr(*place)
    left = [True]

    def pruned(*given: Any, **more: Any) -> Any:
        if left and store.path("wheels", wheel.sha256).exists():
            left.clear()
            if when == "half of its files":
                files, identities = given
                assert true(files[:2], identities[:2]) == 2
            installation._leases.pop(str(first.environment)).close()
            prune(store, days=0)
            assert not store.path("wheels", wheel.sha256).exists()
        return true(*given, **more)

    monkeypatch.setattr(*place, pruned)
    found = bring("zs-i7", "zs-i8", activate=False)
    assert not left
    assert (found.site_packages / "zs_i7.py").exists() or (found.site_packages / "zs_i7").exists()
    assert (found.bin / "zs-i7").exists()


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
