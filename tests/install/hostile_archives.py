"""Zip files that break one rule each: names, members, headers, end records."""

from __future__ import annotations

from tests.install.hostile import (
    CODE,
    DATA,
    FILES,
    NAME,
    VERSION,
    Case,
    changed,
    hidden_end,
    overlapping,
    patched,
    two_ends,
    unicode_path,
    whole,
    wide_end,
    zip64_sizes,
)
from tests.install.wheels import LINK, Entry, members, noise, pack

PATHS = {
    "a path above": "../evil",
    "a path above all": "../../../../../../../../tmp/evil",
    "an absolute path": "/tmp/evil",
    "a path through the middle": "zs_bad/../../evil",
    "a path that comes back": "zs_bad/../evil.py",
    "a dot": "zs_bad/./evil.py",
    "two slashes": "zs_bad//evil.py",
    "two slashes first": "//host/evil",
    "a backslash": "zs_bad\\evil.py",
    "a path above with backslashes": "..\\evil",
    "a drive": "C:/evil",
    "a drive without a slash": "C:evil",
    "a stream of another file": "zs_bad.py:evil",
    "above, through the data": f"{DATA}/data/../../evil",
    "above, through the scripts": f"{DATA}/scripts/../evil",
    "above, through the pure part": f"{DATA}/purelib/../../../evil",
    "absolute, through the data": f"{DATA}/data//tmp/evil",
}
PRINTED = {
    "a NUL": "zs_bad/a\0b.py",
    "a line's end": "zs_bad/a\nb.py",
    "a carriage return": "zs_bad/a\rb.py",
    "an escape": "zs_bad/\x1b[2Ja.py",
    "a line separator": "zs_bad/a\u2028b.py",
    "a control character beyond ASCII": "zs_bad/a\x85b.py",
}
ARCHIVES: dict[str, Case] = {
    **{what: Case(whole({path: b"x"}), "leads outside") for what, path in PATHS.items()},
    **{what: Case(whole({path: b"x"}), "control characters") for what, path in PRINTED.items()},
    # names
    "a long name": Case(whole({"zs_bad/" + "a" * 300: b""}), "too long a name"),
    "a long path": Case(whole({"abcdefgh/" * 120 + "a": b""}), "too long a name"),
    "a deep path": Case(whole({"a/" * 150 + "a": b""}), "too many directories"),
    "Latin-1": Case(changed(CODE, raw=b"zs_bad/\xe9.py", flags=0), "not a name in UTF-8"),
    "UTF-8 that does not say so": Case(
        changed(CODE, raw="zs_bad/é.py".encode(), flags=0), "not a name in UTF-8"
    ),
    "broken UTF-8": Case(changed(CODE, raw=b"zs_bad/\xff.py", flags=0x800), "not a name in UTF-8"),
    "UTF-8 of a surrogate": Case(
        changed(CODE, raw=b"zs_bad/\xed\xa0\x80.py", flags=0x800), "not a name in UTF-8"
    ),
    "overlong UTF-8": Case(
        changed(CODE, raw=b"zs_bad/\xc0\xaf.py", flags=0x800), "not a name in UTF-8"
    ),
    "a second name": Case(changed(CODE, extra=unicode_path(b"evil.py")), "second name"),
    "a second name in the first header only": Case(
        changed(CODE, local={"extra": unicode_path(b"evil.py")}), "second name"
    ),
    "the second name twice": Case(
        changed(CODE, extra=unicode_path(CODE.encode()) * 2), "extra field twice"
    ),
    # members
    "a symbolic link": Case(changed(CODE, mode=LINK), "symbolic link"),
    "a device": Case(changed(CODE, mode=0o020666), "not a regular file"),
    "a pipe": Case(changed(CODE, mode=0o010666), "not a regular file"),
    "a directory that is called a file": Case(changed(CODE, mode=0o040755), "not a regular file"),
    "a directory with content": Case(
        pack([Entry("zs_bad/", b"1", mode=0o040755), *members(NAME, VERSION, FILES)]),
        "directory with content",
    ),
    "a directory with hidden bytes": Case(
        pack([Entry("zs_bad/", data=b"hidden", mode=0o040755), *members(NAME, VERSION, FILES)]),
        "directory with content",
    ),
    "twice the same": Case(
        pack([*members(NAME, VERSION, FILES)[:1], *members(NAME, VERSION, FILES)]), "twice"
    ),
    "twice, with another content": Case(
        pack([Entry(CODE, b"evil"), *members(NAME, VERSION, FILES)]), "twice"
    ),
    "a directory twice over": Case(
        pack([Entry(CODE + "/", mode=0o040755), *members(NAME, VERSION, FILES)]),
        "both a file and a directory",
    ),
    "another case": Case(whole({"ZS_BAD/__init__.py": b"evil"}), "as one file"),
    "another case of a folder's name": Case(whole({"ZS_bad": b"evil"}), "file and a directory"),
    "another Unicode form": Case(
        whole({"zs_bad/é.py": b"1", "zs_bad/e\u0301.py": b"2"}), "as one file"
    ),
    "a sharp s": Case(whole({"zs_bad/ß.py": b"1", "zs_bad/SS.py": b"2"}), "as one file"),
    "file and directory": Case(whole({"zs_bad": b"evil"}), "both a file and a directory"),
    # compression
    "encrypted": Case(changed(CODE, flags=1), "encrypted"),
    "strongly encrypted": Case(changed(CODE, flags=0x41), "encrypted"),
    "an encrypted directory": Case(changed(CODE, flags=0x2000), "encrypted"),
    "a patch": Case(changed(CODE, flags=0x20), "unknown flags"),
    **{
        f"compressed by {what}": Case(changed(CODE, method=method), f"method {method}")
        for what, method in {
            "shrinking": 1,
            "implosion": 6,
            "Deflate64": 9,
            "bzip2": 12,
            "LZMA": 14,
            "zstd": 93,
            "zstd of old": 20,
            "xz": 95,
            "AES": 99,
            "nobody": 0xFFFF,
        }.items()
    },
    "a wrong checksum": Case(changed(CODE, crc=7), "wrong checksum"),
    "a wrong checksum of a stored member": Case(changed(CODE, method=0, crc=7), "wrong checksum"),
    "longer than it says": Case(changed(CODE, size=50), "not as long"),
    "shorter than it says": Case(changed(CODE, size=5000), "bytes and not 5000"),
    "nothing, it says": Case(changed(CODE, size=0, crc=0), "not as long"),
    "stored with two sizes": Case(changed(CODE, method=0, size=8), "two sizes"),
    "damaged data": Case(changed(CODE, data=b"\xff" * 40), "damaged"),
    "bytes after its data": Case(
        changed(CODE, data=b"\x4b\xc9.I\x06\x00" + b"hidden", size=0, crc=0), "not as long"
    ),
    "no data at all": Case(changed(CODE, data=b""), "not as long"),
    # bombs
    "a member that grows too much": Case(changed(CODE, size=1 << 40, wide=True), "would inflate"),
    "members that grow too much together": Case(
        pack(
            [Entry(f"zs_bad/{n}", data=noise(90_000), size=99 << 20) for n in range(30)]
            + members(NAME, VERSION, FILES)
        ),
        "it would inflate",
    ),
    "a member that is nothing but padding": Case(
        changed(CODE, data=b"\0\0\0\xff\xff" * 30_000 + b"\3\0", size=0, crc=0),
        "0 bytes were deflated to 150002",
    ),
    "members within each other": Case(overlapping(12), "overlaps"),
    "one member's bytes for two": Case(patched(whole(), b"PK\1\2", 42, "<I", 0), "overlaps"),
    # headers
    "another name in front": Case(
        changed(CODE, local={"raw": b"zs_bad/__evil__.py"}), "two headers"
    ),
    "another size in front": Case(changed(CODE, local={"size": 5}), "two headers"),
    "another packed size in front": Case(changed(CODE, local={"packed": 5}), "two headers"),
    "another checksum in front": Case(changed(CODE, local={"crc": 5}), "two headers"),
    "another method in front": Case(changed(CODE, local={"method": 0}), "two headers"),
    "other flags in front": Case(changed(CODE, local={"flags": 0x800}), "two headers"),
    "a descriptor in front only": Case(changed(CODE, local={"flags": 8}), "two headers"),
    "a wrong descriptor": Case(changed(CODE, described=True, local={"crc": 5}), "two headers"),
    "a descriptor that is not there": Case(changed(CODE, flags=8), "bytes between"),
    "other sizes in front of a descriptor": Case(
        changed(CODE, flags=8, described=False, gap=b"PK\7\x08" + bytes(12), local={"size": 5}),
        "two headers",
    ),
    "other wide sizes in front": Case(changed(CODE, wide=True, local={"size": 5}), "two headers"),
    "wide sizes in front that are not needed": Case(
        changed(CODE, local={"extra": zip64_sizes(5, 5)}), "other ones besides"
    ),
    "wide sizes that are not needed": Case(
        changed(CODE, extra=zip64_sizes(5, 5)), "other ones besides"
    ),
    "wide sizes twice": Case(
        changed(CODE, wide=True, extra=zip64_sizes(480, 31)), "extra field twice"
    ),
    "wide sizes that are missing": Case(changed(CODE, size=0xFFFFFFFF), "no zip64 sizes"),
    "a damaged extra field": Case(changed(CODE, extra=b"\1\0\x20\0ab"), "damaged extra"),
    "half an extra field": Case(changed(CODE, extra=b"\1\0"), "damaged extra"),
    "bytes between members": Case(changed(CODE, gap=b"junk"), "bytes between"),
    "many bytes between members": Case(changed(CODE, gap=bytes(100_000)), "bytes between"),
    "a member nobody lists between two": Case(
        changed(CODE, gap=pack([Entry("evil.py", b"x")])[:40]), "bytes between"
    ),
    "bytes before the first member": Case(
        pack(members(NAME, VERSION, FILES), prefix=b"#!/bin/sh\n"), "before its first member"
    ),
    # end records
    "bytes before it all": Case(b"MZ" + whole(), "not where its end record says"),
    "junk after it": Case(whole() + b"junk", "end record"),
    "a line's end after it": Case(whole() + b"\n", "end record"),
    "a comment": Case(whole()[:-2] + b"\4\0text", "end record"),
    "cut short": Case(whole()[:-1], "end record"),
    "cut in the middle": Case(whole()[:700], "end record"),
    "a web page": Case(b"<html>not found</html>" * 20, "end record"),
    "nothing": Case(b"", "too short"),
    "an empty zip": Case(pack([]), "it is empty"),
    "two end records": Case(two_ends(), "not where its end record says|shorter than"),
    "an end record in a comment": Case(
        hidden_end(), "not where its end record says|holds more|shorter than"
    ),
    "one of two disks": Case(patched(whole(), b"PK\5\6", 4, "<H", 1), "split zip"),
    "a directory on another disk": Case(patched(whole(), b"PK\5\6", 6, "<H", 1), "split zip"),
    "a member on another disk": Case(patched(whole(), b"PK\1\2", 34, "<H", 1), "another disk"),
    "fewer entries than there are": Case(
        patched(whole(), b"PK\5\6", 8, "<2H", 2, 2), "holds more than its entries"
    ),
    "more entries than there are": Case(
        patched(whole(), b"PK\5\6", 8, "<2H", 6, 6), "cut short|shorter than|damaged"
    ),
    "two counts": Case(patched(whole(), b"PK\5\6", 8, "<H", 1), "split zip"),
    "a directory elsewhere": Case(
        patched(whole(), b"PK\5\6", 16, "<I", 4), "not where its end record says"
    ),
    "zip64 that is missing": Case(patched(whole(), b"PK\5\6", 8, "<2H", 0xFFFF, 0xFFFF), "zip64"),
    "zip64 with another count": Case(wide_end(whole(), count=3), "holds more than its entries"),
    "zip64 with a huge count": Case(wide_end(whole(), count=1 << 60), "shorter than its entries"),
    "zip64 with another start": Case(wide_end(whole(), start=7), "not where its end record says"),
    "zip64 that contradicts": Case(
        patched(wide_end(whole()), b"PK\5\6", 10, "<H", 3), "contradict"
    ),
    "zip64 on another disk": Case(patched(wide_end(whole()), b"PK\5\6", 4, "<H", 1), "contradict"),
    "a format of the future": Case(patched(whole(), b"PK\1\2", 6, "<H", 64), "needs version 64"),
    "a format of the future in front": Case(
        patched(whole(), b"PK\3\4", 4, "<H", 64), "two headers"
    ),
    "zip64 somewhere else": Case(
        patched(wide_end(whole()), b"PK\6\7", 8, "<Q", 0), "not where it should be"
    ),
    "zip64 of two disks": Case(
        patched(wide_end(whole()), b"PK\6\7", 16, "<I", 2), "not where it should be"
    ),
    "a damaged zip64 record": Case(
        patched(wide_end(whole()), b"PK\6\6", 4, "<Q", 9), "zip64 end record is damaged"
    ),
}
