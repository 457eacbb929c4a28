from __future__ import annotations

import pytest

from zerostart_jupyter.install.wheel import read_metadata

HEAD = "Metadata-Version: 2.1\nName: zs-a\nVersion: 1.0\nRequires-Dist: zs-b\nRequires-Dist: zs-c\n"


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("body", ["", "\nRequires-Dist: not a header any more\n\nName: other\n"])
@pytest.mark.parametrize("mark", ["", "\N{ZERO WIDTH NO-BREAK SPACE}"])
def test_metadata_is_its_headers(ending: str, body: str, mark: str) -> None:
    found = read_metadata(f"{mark}{HEAD}{body}".replace("\n", ending).encode(), "a.whl")
    assert (found.name, found.version) == ("zs-a", "1.0")
    assert found.requires == ("zs-b", "zs-c")
