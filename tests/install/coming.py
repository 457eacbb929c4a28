"""An environment that comes as the test says, and threads that import from it."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import threading
from pathlib import Path

from zerostart_jupyter.install.activation import activate, landed, site_of
from zerostart_jupyter.install.gate import Pending, gate
from zerostart_jupyter.install.imports import import_names


class Coming:
    """An environment that the test fills by hand."""

    def __init__(self, root: Path, needs: dict[str, list[str]]) -> None:
        self.root = root
        self.demanded: list[str] = []
        self.asked = threading.Event()
        self._needs = needs
        site_of(root).mkdir(parents=True)
        landed(root, "x").parent.mkdir(parents=True)
        self.pending = Pending(root, needs, self._demand, self._closure)
        gate.open(self.pending)
        activate(root)

    def _demand(self, name: str) -> None:
        self.demanded.append(name)
        self.asked.set()

    def _closure(self, name: str) -> set[str]:
        found, todo = set(), [name]
        while todo:
            each = todo.pop()
            if each not in found:
                found.add(each)
                todo += self._needs.get(each, [])
        return found

    def claim(self, name: str, *paths: str, files: dict[str, str] | None = None) -> None:
        self.pending.claim(name, import_names(paths), files)

    def write(self, path: str, text: str = "") -> None:
        file = site_of(self.root) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def land(self, name: str) -> None:
        landed(self.root, name).touch()
        self.pending.land(name)


def in_thread(module: str) -> tuple[threading.Thread, list[object]]:
    said: list[object] = []

    def load() -> None:
        try:
            said.append(importlib.import_module(module))
        except BaseException as error:
            said.append(error)

    thread = threading.Thread(target=load)
    thread.start()
    return thread, said
