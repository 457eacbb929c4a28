from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.tags import sys_tags

from zerostart_jupyter.install.pages import File, files, likely

ADDRESS = "https://index.test/simple/zs-x/"
DIGEST = "a" * 64
KEYS = ["filename", "url", "hashes", "sha256", "requires-python", "size", "yanked"]


def anchor(name: str, *, digest: str = f"#sha256={DIGEST}", more: str = "") -> str:
    return f'<a href="../../files/{name}{digest}" {more}>{name}</a><br/>'


def wheel(version: str, tag: str = "py3-none-any", **about: object) -> File:
    name = f"zs_x-{version}-{tag}.whl"
    return File(name, f"https://index.test/{name}", DIGEST, **about)  # type: ignore[arg-type]


class TestReading:
    def test_a_page_of_html(self) -> None:
        page = anchor("zs_x-1.0-py3-none-any.whl", more='data-requires-python="&gt;=3.9"')
        (found,) = files(page.encode(), "text/html; charset=utf-8", ADDRESS)
        url = "https://index.test/files/zs_x-1.0-py3-none-any.whl"
        assert found == File("zs_x-1.0-py3-none-any.whl", url, DIGEST, ">=3.9", None)

    def test_a_page_of_json(self) -> None:
        file = {
            "filename": "zs_x-1.0-py3-none-any.whl",
            "url": "/files/zs_x-1.0-py3-none-any.whl",
            "hashes": {"sha256": DIGEST},
            "requires-python": ">=3.9",
            "size": 17,
        }
        yanked = {**file, "filename": "zs_x-2.0-py3-none-any.whl", "yanked": "broken"}
        body = json.dumps({"files": [file, yanked]}).encode()
        (found,) = files(body, "application/vnd.pypi.simple.v1+json", ADDRESS)
        url = "https://index.test/files/zs_x-1.0-py3-none-any.whl"
        assert found == File("zs_x-1.0-py3-none-any.whl", url, DIGEST, ">=3.9", 17)

    @pytest.mark.parametrize(
        "line",
        [
            anchor("zs_x-1.0-py3-none-any.whl", digest=""),
            anchor("zs_x-1.0-py3-none-any.whl", digest="#md5=abc"),
            anchor("zs_x-1.0-py3-none-any.whl", more='data-yanked=""'),
            anchor("zs_x-1.0.tar.gz"),
        ],
    )
    def test_files_that_are_of_no_use_are_left_out(self, line: str) -> None:
        assert files(line.encode(), "text/html", ADDRESS) == []

    @given(st.binary() | st.text().map(str.encode), st.sampled_from(["text/html", "a/json", ""]))
    def test_whatever_comes_is_no_error(self, body: bytes, kind: str) -> None:
        assert isinstance(files(body, kind, ADDRESS), list)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(KEYS), inner),
        )
    )
    def test_whatever_json_comes_is_no_error(self, body: object) -> None:
        text = json.dumps({"files": [body]}).encode()
        assert isinstance(files(text, "application/json", ADDRESS), list)

    def test_a_name_that_no_file_can_have_is_left_out(self) -> None:
        tags = ".".join(f"py{n}" for n in range(100))
        page = anchor(f"zs_x-1.0-{tags}-{tags}-{tags}.whl")
        assert files(page.encode(), "text/html", ADDRESS) == []

    def test_brackets_without_end_are_no_error(self) -> None:
        assert files(b"[" * 1_000_000, "application/json", ADDRESS) == []

    @pytest.mark.parametrize("unit", ["<a ", "x", "x=", "x = ", "x='", " ", "<a x>y ", "<a x> "])
    @pytest.mark.parametrize("start", ["", "<a ", "<a x>"])
    def test_a_page_takes_time_by_its_length_and_not_by_its_square(
        self, start: str, unit: str
    ) -> None:
        """In a process of its own, which can be ended: the square of this length takes hours."""
        code = (
            "import sys\nfrom zerostart_jupyter.install.pages import LARGEST, files\n"
            "start, unit = sys.argv[1:]\nbody = start + unit * (LARGEST // 8 // len(unit)) + '>'\n"
            "assert files(body.encode(), 'text/html', 'https://index.test/') == []"
        )
        subprocess.run([sys.executable, "-c", code, start, unit], check=True, timeout=90)


class TestChoosing:
    def version(self, wanted: str, *found: File) -> str | None:
        chosen = likely(found, Requirement(wanted))
        return chosen.version if chosen else None

    def test_the_newest_version_that_fits(self) -> None:
        found = [wheel("1.0"), wheel("1.10"), wheel("1.9")]
        assert self.version("zs-x", *found) == "1.10"
        assert self.version("zs-x<1.10", *found) == "1.9"
        assert self.version("zs-x==1.0", *found) == "1.0"
        assert self.version("zs-x>2", *found) is None

    def test_a_pre_release_only_where_there_is_nothing_else(self) -> None:
        assert self.version("zs-x", wheel("1.0"), wheel("2.0rc1")) == "1.0"
        assert self.version("zs-x", wheel("2.0rc1")) == "2.0rc1"

    def test_a_version_for_another_python_is_passed_over(self) -> None:
        newer = wheel("2.0", requires_python=">=99")
        assert self.version("zs-x", wheel("1.0"), newer) == "1.0"

    def test_none_where_the_newest_has_no_wheel_for_this_machine(self) -> None:
        foreign = wheel("2.0", "cp311-cp311-win_amd64")
        assert self.version("zs-x", wheel("1.0"), foreign) is None

    def test_the_wheel_that_fits_best(self) -> None:
        best = wheel("1.0", str(next(sys_tags())))
        chosen = likely([wheel("1.0"), best], Requirement("zs-x"))
        assert chosen is not None
        assert (chosen.wheel, chosen.sha256, chosen.url) == (best.name, DIGEST, best.url)

    def test_a_file_of_another_project_is_none_of_this_one(self) -> None:
        other = File("zs_y-1.0-py3-none-any.whl", "https://index.test/y", DIGEST)
        assert likely([other], Requirement("zs-x")) is None

    @pytest.mark.parametrize("name", ["zs_x.whl", "zs_x-1.0.whl", "zs_x-one-py3-none-any.whl"])
    def test_a_name_that_is_none_of_a_wheel(self, name: str) -> None:
        assert likely([File(name, "https://index.test/x", DIGEST)], Requirement("zs-x")) is None
