from __future__ import annotations

import string
import subprocess
import sys
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st
from installer.scripts import Script

from zerostart_jupyter.install import scripts
from zerostart_jupyter.install.entry_points import Program

PATHS = st.text(string.ascii_letters + string.digits + "/ '\"$\\é", min_size=1, max_size=200)
NAMES = st.lists(st.text(string.ascii_letters, min_size=1), min_size=1, max_size=3).map(".".join)


@given(PATHS, NAMES, NAMES, st.sampled_from(["console", "gui"]))
@example("/" + "x" * 123, "a", "b", "console")
@example("/" + "x" * 124, "a", "b", "console")
@example("/usr/bin/python3", "a.b", "c.d", "gui")
def test_programs_are_those_of_the_installer_library(
    python: str, module: str, attribute: str, section: str
) -> None:
    theirs = Script("it", module, attribute, section)  # type: ignore[arg-type]
    point = Program("it", module, attribute, section)
    assert scripts.program(point, python) == theirs.generate(python, "posix")[1]


def test_a_program_runs_whatever_its_interpreter_is_called(tmp_path: Path) -> None:
    odd = tmp_path / "it's a $HOME"
    odd.mkdir()
    (odd / "python").symlink_to(sys.executable)
    program = tmp_path / "program"
    program.write_bytes(scripts.shebang(str(odd / "python")) + b"import sys; print(sys.argv[1:])")
    program.chmod(0o755)
    assert subprocess.check_output([program, "a b", "$x"], text=True) == "['a b', '$x']\n"


def test_nothing_of_the_library_is_imported() -> None:
    code = (
        "import sys, zerostart_jupyter.install.environment\n"
        "print([name for name in sys.modules if name.partition('.')[0] == 'installer'])"
    )
    done = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert done == "[]\n"
