from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from zerostart_jupyter.snapshot.streams import Forward

# Says what would be on 0 to 2: the number of those that are passed on, and for each of the others
# whether it was opened anew.
LOOK = (
    "import json, os; from zerostart_jupyter.snapshot.streams import inside\n"
    "found, forwards = inside()\n"
    "same = {n: os.path.sameopenfile(n, m) for n, m in found.items()}\n"
    "open(os.environ['ANSWER'], 'w').write(json.dumps([same, len(forwards)]))"
)


def seen(tmp_path: Path, **given: int) -> str:
    """What a process with these on 0 to 2 finds."""
    answer = tmp_path / "answer"
    subprocess.run(
        [sys.executable, "-c", LOOK],
        env=os.environ | {"ANSWER": str(answer)},
        cwd=Path(__file__).parents[2],
        check=True,
        **given,  # type: ignore[call-overload]
    )
    return answer.read_text()


def test_pipes_lie_on_no_mount_and_stay(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    found = seen(tmp_path, stdin=reading, stdout=writing, stderr=writing)
    os.close(reading)
    os.close(writing)
    assert found == "[{}, 0]"


def test_a_device_and_a_file_that_is_appended_to_are_opened_again(tmp_path: Path) -> None:
    with (tmp_path / "log").open("a") as log:
        found = seen(tmp_path, stdin=subprocess.DEVNULL, stdout=log.fileno(), stderr=log.fileno())
    assert found == '[{"0": true, "1": true, "2": true}, 0]'


def test_a_file_with_a_shared_position_and_one_without_a_path_are_passed_on(
    tmp_path: Path,
) -> None:
    with (tmp_path / "log").open("w") as log, (tmp_path / "gone").open("a") as gone:
        (tmp_path / "gone").unlink()
        found = seen(tmp_path, stdin=subprocess.DEVNULL, stdout=log.fileno(), stderr=gone.fileno())
    assert found == '[{"0": true, "1": false, "2": false}, 2]'


def test_what_is_passed_on_arrives_in_order_at_the_position_that_is_shared(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb", buffering=0) as log:
        log.write(b"server 1\n")
        forward = Forward(log.fileno())
        assert forward.pass_on()  # nothing yet
        os.write(forward.writing, b"kernel\n")
        assert forward.pass_on()
        log.write(b"server 2\n")
        os.write(forward.writing, b"last words\n")
        os.close(forward.writing)
        assert not forward.pass_on()
        os.close(forward.fileno())
    assert (tmp_path / "log").read_bytes() == b"server 1\nkernel\nserver 2\nlast words\n"


def test_a_full_target_ends_it(tmp_path: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    forward = Forward(full)
    os.write(forward.writing, b"kernel\n")
    assert not forward.pass_on()
    for each in (full, forward.fileno(), forward.writing):
        os.close(each)
