"""The description is true: schemathesis asks a running server all that follows from it.

It checks every answer's status, headers and schema, that what is malformed is refused and what is
well-formed is not, that nothing is answered without the token, and that what was deleted is gone.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.jupyter import TOKEN, Jupyter, environment
from zerostart_jupyter.core.events import Hub, operation
from zerostart_jupyter.core.status import StatusFile
from zerostart_jupyter.snapshot.catalog import ROOM, Catalog, fresh_id

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")


@pytest.fixture
def used(server: Jupyter, catalog: Catalog) -> Iterator[None]:
    """Something to find for who follows the description's links: snapshots, work under way."""
    for number in range(40):
        about = {"name": f"run-{number}", "notebook": "a.ipynb"}
        with catalog.store.publish(ROOM, fresh_id(), about):
            pass
    hub = Hub()
    status = StatusFile(server.status / "kernel-at-work", "kernel", {}, hub)
    with operation("load", "model", hub=hub):
        yield
    status.close()


@pytest.mark.usefixtures("used")
@pytest.mark.parametrize(
    "examples",
    [
        pytest.param(["--generation-deterministic", "--max-examples=8"], id="few-and-the-same"),
        pytest.param(["--max-examples=1000"], id="many", marks=pytest.mark.slow),
    ],
)
def test_the_server_does_what_its_description_says(
    server: Jupyter, tmp_path: Path, examples: list[str]
) -> None:
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", f"--config-file={CONFIGURATION}", "run"),
            f"{server.url}zerostart/api/openapi.json",
            f"--header=Authorization: token {TOKEN}",
            *examples,
        ],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    print(ran.stdout)
    assert "Selected: 9/9" in ran.stdout
