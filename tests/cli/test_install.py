from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.install.wheels import make, noise
from tests.servers.index import Index

ROOT = Path(__file__).parents[2]
PATIENCE = 90.0


class Shell:
    """`zerostart` in a process of its own, with a cache and an index of its own."""

    def __init__(self, folder: Path, index: Index) -> None:
        self.folder = folder
        self.index = index
        self.cache = folder / "cache"
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PIP_", "UV_", "ZS_")) and not name.lower().endswith("_proxy")
        }
        self.environ: Mapping[str, str] = {
            **kept,
            "PYTHONPATH": str(ROOT),
            "ZEROSTART_CACHE": str(self.cache),
            "UV_CACHE_DIR": str(folder / "uv"),
            "UV_DEFAULT_INDEX": index.url,
            "PIP_CONFIG_FILE": os.devnull,
            "UV_NO_CONFIG": "1",
        }

    def __call__(
        self, *words: str, code: int = 0, given: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "zerostart", *words],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env=self.environ,
            cwd=self.folder,
            check=False,
            input=given,
        )
        assert done.returncode == code, done.stderr
        return done


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    with Index() as index:
        yield Shell(tmp_path, index)  # type: ignore[misc]


def offer(shell: Shell, *names: str, **files: bytes) -> None:
    for name in names:
        wheel = make(name)
        shell.index.wheels[wheel.filename] = wheel


def test_json_has_the_promised_keys(shell: Shell) -> None:
    offer(shell, "zs-json")
    body = json.loads(shell("install", "zs-json", "--json").stdout)
    assert not body["warm"]
    assert body["wheels"] == 1
    assert body["bytes_downloaded"] > 0
    assert Path(body["site_packages"], "zs_json.py").is_file()
    assert Path(body["environment"]).is_relative_to(shell.cache)
    assert body["seconds"] > 0
    again = json.loads(shell("install", "zs-json", "--json").stdout)
    assert again["warm"]
    assert again["bytes_downloaded"] == 0
    assert again["environment"] == body["environment"]


def test_text_begins_with_the_place(shell: Shell) -> None:
    offer(shell, "zs-text")
    done = shell("install", "zs-text")
    assert Path(done.stdout.splitlines()[0]).is_dir()
    assert done.stderr == ""


def test_a_dry_run_fetches_nothing(shell: Shell) -> None:
    offer(shell, "zs-dry")
    body = json.loads(shell("install", "zs-dry", "--dry-run", "--json").stdout)
    assert body["missing"] == ["zs_dry-1.0-py3-none-any.whl"]
    assert not Path(body["environment"]).exists()
    assert "zs-dry" in shell("install", "zs-dry", "--dry-run").stdout


def test_requirements_files_are_read(shell: Shell) -> None:
    offer(shell, "zs-a", "zs-b")
    (shell.folder / "r.txt").write_text("zs-a\n")
    assert json.loads(shell("install", "-r", "r.txt", "zs-b", "--json").stdout)["wheels"] == 2
    (shell.folder / "requirements.txt").write_text("zs-a\n")
    assert json.loads(shell("install", "--json").stdout)["wheels"] == 1


def test_an_unknown_package_is_one_line(shell: Shell) -> None:
    done = shell("install", "zs-nowhere", code=1)
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "zs-nowhere" in done.stderr
    assert "--index-url" in done.stderr


def test_the_cache_is_listed_pruned_and_placed(shell: Shell) -> None:
    assert shell("cache", "dir").stdout.strip() == str(shell.cache)
    assert json.loads(shell("cache", "dir", "--json").stdout) == {"cache": str(shell.cache)}
    assert "empty" in shell("cache").stdout
    offer(shell, "zs-cached")
    shell("install", "zs-cached")
    listed = json.loads(shell("cache", "list", "--json").stdout)
    assert [each["kind"] for each in listed] == ["environment", "wheel"]
    assert "zs-cached" in shell("cache").stdout
    assert json.loads(shell("cache", "prune", "--json").stdout)["removed"] == 0
    assert "Removed 3" in shell("cache", "prune", "--days", "0").stdout
    assert "empty" in shell("cache").stdout


def write(shell: Shell, text: str, name: str = "script.py") -> str:
    (shell.folder / name).write_text(text)
    return name


def test_a_script_runs_with_its_own_block(shell: Shell) -> None:
    offer(shell, "zs-own")
    script = write(
        shell,
        '# /// script\n# dependencies = ["zs-own"]\n# ///\n'
        "import sys, zs_own\n"
        "print(__name__, __file__, sys.argv, zs_own.NAME)\n"
        "sys.exit(7)\n",
    )
    done = shell("run", script, "--", "one", "--two", code=7)
    assert done.stdout == "__main__ script.py ['script.py', 'one', '--two'] zs-own\n"


def test_a_script_starts_before_its_packages_are_here(shell: Shell) -> None:
    wheel = make("zs-slow", files={"zs_slow/__init__.py": b"", "zs_slow/blob": noise(3 << 20)})
    shell.index.wheels[wheel.filename] = wheel
    shell.index.of(wheel).pace = 3 << 20
    script = write(
        shell,
        "import os, glob\n"
        "print(len(glob.glob(os.environ['ZEROSTART_CACHE'] + '/wheels/*/entry.json')))\n"
        "import zs_slow; print('imported')\n",
    )
    # with a head start it would be here before uv has answered
    shell.environ = {**shell.environ, "ZS_NO_HEAD_START": "1"}
    assert shell("run", "-p", "zs-slow", script).stdout == "0\nimported\n"
    assert shell("run", "-p", "zs-slow", script).stdout == "1\nimported\n"


def test_a_scripts_traceback_is_its_own(shell: Shell) -> None:
    done = shell("run", write(shell, "def f():\n    1 / 0\nf()\n"), code=1)
    assert done.stderr.startswith("Traceback (most recent call last):\n")
    assert "script.py" in done.stderr
    assert "zerostart_jupyter" not in done.stderr
    assert shell("run", write(shell, "raise SystemExit('said')\n"), code=1).stderr == "said\n"


def test_main_is_a_real_main(shell: Shell) -> None:
    script = write(
        shell,
        "import multiprocessing, pickle\n"
        "class Thing: pass\n"
        "def work(n): return n * 2\n"
        "if __name__ == '__main__':\n"
        "    pickle.loads(pickle.dumps(Thing()))\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(pool.map(work, [4]))\n",
    )
    assert shell("run", script).stdout == "[8]\n"


def test_a_project_around_the_script_counts(shell: Shell) -> None:
    offer(shell, "zs-project", "zs-more")
    (shell.folder / "requirements.txt").write_text("zs-project\n")
    script = write(shell, "import zs_project\nprint(zs_project.NAME)\n")
    assert shell("run", script).stdout == "zs-project\n"
    own = write(
        shell,
        '# /// script\n# dependencies = ["zs-more"]\n# ///\nimport zs_more\nprint(zs_more.NAME)\n',
    )
    assert shell("run", own).stdout == "zs-more\n"


def test_what_is_named_comes_on_top_of_what_is_found(shell: Shell) -> None:
    offer(shell, "zs-found", "zs-named", "zs-listed", "zs-project")
    (shell.folder / "requirements.txt").write_text("zs-found\n")
    (shell.folder / "more.txt").write_text("zs-listed\n")
    code = "import importlib.util\nprint([bool(importlib.util.find_spec(n)) for n in NAMES])\n"
    names = "NAMES = ['zs_project', 'zs_found', 'zs_named', 'zs_listed']\n"
    script = write(shell, names + code)
    words = ("run", "-p", "zs-named", "-r", "more.txt", script)
    assert shell(*words).stdout == "[False, True, True, True]\n"
    (shell.folder / "pyproject.toml").write_text(
        '[project]\nname = "x"\nversion = "1"\ndependencies = ["zs-project"]\n'
    )
    assert shell(*words).stdout == "[True, False, True, True]\n"
    write(shell, '# /// script\n# dependencies = ["zs-found"]\n# ///\n' + names + code)
    assert shell(*words).stdout == "[False, True, True, True]\n"


def test_a_script_may_come_over_standard_input(shell: Shell) -> None:
    offer(shell, "zs-own")
    code = (
        '# /// script\n# dependencies = ["zs-own"]\n# ///\n'
        "import sys, zs_own\n"
        "print(__name__, sys.argv, sys.path[0], zs_own.NAME, sys.stdin.read())\n"
    )
    done = shell("run", "-", "--", "one", given=code)
    assert done.stdout == "__main__ ['-', 'one']  zs-own \n"
    tools = code.replace("# ///\nimport", "# [tool.uv]\n# ///\nimport")
    assert "need a file" in shell("run", "-", given=tools, code=1).stderr
    assert "line 1, in <module>" in shell("run", "-", given="1/0", code=1).stderr


def test_a_script_on_standard_input_is_there_for_a_second_process(shell: Shell) -> None:
    """What we ourselves have imported makes way by starting again."""
    wheel = make("packaging", "99.0", {"packaging/__init__.py": b"", "packaging/x.py": b""})
    shell.index.wheels[wheel.filename] = wheel
    code = "import packaging.x, importlib.metadata as m\nprint(m.version('packaging'))\n"
    assert shell("run", "-p", "packaging==99.0", "-", given=code).stdout == "99.0\n"


def test_a_package_runs_by_its_command(shell: Shell) -> None:
    wheel = make(
        "zs-command",
        files={
            "zs_command.py": b"import sys\ndef main():\n    print(sys.argv[1:])\n    return 4\n"
        },
        entry_points="[console_scripts]\nzs-command = zs_command:main\n",
    )
    shell.index.wheels[wheel.filename] = wheel
    assert shell("run", "zs-command>=1", "--", "x", code=4).stdout == "['x']\n"


def test_a_package_runs_by_its_module_or_its_program(shell: Shell) -> None:
    module = make(
        "zs-module", files={"zs_module/__init__.py": b"", "zs_module/__main__.py": b"print('m')\n"}
    )
    program = make(
        "zs-program", files={"zs_program-1.0.data/scripts/zs-program": b"#!/bin/sh\necho p\n"}
    )
    for wheel in (module, program):
        shell.index.wheels[wheel.filename] = wheel
    assert shell("run", "zs-module").stdout == "m\n"
    assert shell("run", "zs-program").stdout == "p\n"


def test_a_package_without_a_command_says_so(shell: Shell) -> None:
    offer(shell, "zs-library")
    assert "no command" in shell("run", "zs-library", code=1).stderr
    assert "There is no script" in shell("run", "missing.py", code=1).stderr
    assert "no script" in shell("run", "./missing", code=1).stderr


def test_a_failed_install_is_one_line_in_a_script_too(shell: Shell) -> None:
    offer(shell, "zs-lost")
    (wheel,) = shell.index.wheels.values()
    shell.index.wrong_hash.add(wheel.filename)
    script = write(shell, "import zs_lost\n")
    done = shell("run", "-p", "zs-lost", script, code=1)
    assert done.stderr.count("\n") == 1
    assert "sha256" in done.stderr


def test_what_is_installed_can_be_kept_in_a_script(shell: Shell) -> None:
    offer(shell, "zs-kept")
    script = write(shell, "import zs_kept\nprint(zs_kept.NAME)\n")
    shell("install", "zs-kept", "--verify", "--save", script)
    assert shell("run", script).stdout == "zs-kept\n"
    assert "NAME --save FILE" in shell("install", "--save", script, code=1).stderr
    assert shell("install", "./here", "--save", script, code=1).stderr.count("\n") == 1
