"""Wheels whose archive is sound and whose files break one rule each; odd ones that break none."""

from __future__ import annotations

import struct
from dataclasses import replace

from tests.install.hostile import (
    CODE,
    DATA,
    FILES,
    INFO,
    NAME,
    VERSION,
    Case,
    changed,
    metadata,
    points,
    rows,
    script,
    shuffled,
    unicode_path,
    wheel_file,
    whole,
    wide_end,
    with_record,
)
from tests.install.wheels import Entry, members, noise, pack

OTHER_TAG = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {}\n"
HEAD = f"Name: {NAME}\nVersion: {VERSION}\n"

CONTENTS: dict[str, Case] = {
    # RECORD
    "an unrecorded file": Case(with_record(rows(without=CODE)), "does not list 'zs_bad/__init__"),
    "a recorded file that is missing": Case(with_record(rows("zs_bad/gone.py,,")), "is not there"),
    "an absolute path in RECORD": Case(with_record(rows("/etc/passwd,,")), "is not there"),
    "a path above in RECORD": Case(with_record(rows("../../evil,,")), "is not there"),
    "a file twice in RECORD": Case(with_record(rows(f"{CODE},,")), "lists a file twice"),
    "a file twice in RECORD, by another path": Case(
        with_record(rows(f"./{CODE},,")), "is not there"
    ),
    "a line of one part": Case(with_record(rows(CODE, without=CODE)), "damaged line"),
    "a line of four parts": Case(with_record(rows(f"{CODE},,,x", without=CODE)), "damaged line"),
    "a size that is no number": Case(
        with_record(rows(f"{CODE},sha256=x,many", without=CODE)), "damaged line"
    ),
    "a negative size": Case(with_record(rows(f"{CODE},,-5", without=CODE)), "damaged line"),
    "md5": Case(with_record(rows(f"{CODE},md5=abc,480", without=CODE)), "no sound digest"),
    "sha1": Case(with_record(rows(f"{CODE},sha1=abc,480", without=CODE)), "no sound digest"),
    "a quote that does not end": Case(with_record(rows('"zs_bad,,')), "cannot be read|is not"),
    "a RECORD in Latin-1": Case(whole(record=b"\xe9,,\n"), "not in UTF-8"),
    "no RECORD": Case(pack(members(NAME, VERSION, FILES)[:-1]), "has no RECORD"),
    # METADATA, WHEEL
    "no METADATA": Case(
        pack(each for each in members(NAME, VERSION, FILES) if "METADATA" not in each.name),
        "has no METADATA",
    ),
    "no WHEEL": Case(
        pack(each for each in members(NAME, VERSION, FILES) if "WHEEL" not in each.name),
        "has no WHEEL",
    ),
    "a METADATA of another project": Case(metadata("Name: zs-evil\nVersion: 1.0\n"), "zs-evil"),
    "a METADATA of another version": Case(metadata(f"Name: {NAME}\nVersion: 2.0\n"), "2.0"),
    "a METADATA of no version": Case(metadata(f"Name: {NAME}\n"), "no version"),
    "a METADATA of no project": Case(metadata("Version: 1.0\n"), "names no project"),
    "a METADATA of two projects": Case(metadata(f"{HEAD}Name: zs-evil\n"), "twice"),
    "a METADATA of two versions": Case(metadata(f"{HEAD}Version: 2.0\n"), "twice"),
    "a METADATA of what is no version": Case(metadata(f"Name: {NAME}\nVersion: x\n"), "speaks of"),
    "a METADATA in Latin-1": Case(
        changed(f"{INFO}/METADATA", content=b"Name: \xe9\n"), "not in UTF-8"
    ),
    "a huge METADATA": Case(
        pack(
            replace(each, size=17 << 20, data=noise(200_000)) if "METADATA" in each.name else each
            for each in members(NAME, VERSION, FILES)
        ),
        "its METADATA has",
    ),
    "a wheel of another format": Case(
        wheel_file("Wheel-Version: 2.0\nTag: py3-none-any\n"), "format version is 2.0"
    ),
    "a wheel of no format": Case(wheel_file("Tag: py3-none-any\n"), "format version is missing"),
    "a wheel of an odd format": Case(
        wheel_file("Wheel-Version: one\nTag: py3-none-any\n"), "format version is one"
    ),
    "no tag": Case(wheel_file("Wheel-Version: 1.0\n"), "other tags"),
    "another tag": Case(wheel_file(OTHER_TAG.format("cp27-none-any")), "other tags"),
    "another ABI": Case(wheel_file(OTHER_TAG.format("py3-cp27m-any")), "other tags"),
    "what is no tag": Case(wheel_file(OTHER_TAG.format("py3")), "other tags"),
    "a billion tags": Case(
        wheel_file(OTHER_TAG.format("-".join([".".join(["x"] * 3000)] * 3))), "other tags"
    ),
    # names of the whole
    "another project's file name": Case(
        whole(), "its file name speaks of", filename="zs_evil-1.0-py3-none-any.whl"
    ),
    "another version's file name": Case(
        whole(), "its file name speaks of", filename="zs_bad-2.0-py3-none-any.whl"
    ),
    "a file name of four parts": Case(whole(), "not a wheel's name", filename="zs_bad-1.0-py3.whl"),
    "a file name that is no wheel's": Case(whole(), "not a wheel's name", filename="zs_bad.zip"),
    "another project's dist-info": Case(pack(members("zs-evil", "1.0", {})), "zs_evil"),
    "another version's dist-info": Case(pack(members("zs-bad", "2.0", {})), "2.0"),
    "two dist-infos": Case(whole({"zs_bad-2.0.dist-info/METADATA": b""}), "2 dist-info"),
    "two dist-infos of one name": Case(
        whole({"zs.bad-1.0.dist-info/METADATA": b""}), "2 dist-info"
    ),
    "no dist-info": Case(pack([Entry(CODE, b"")]), "0 dist-info"),
    # where files would go
    "a part that is none": Case(whole({f"{DATA}/evil/x": b""}), "no part of a wheel"),
    "a part of another project": Case(whole({"zs_evil-1.0.data/data/x": b""}), "no part of a"),
    "a part without a path": Case(whole({f"{DATA}/scripts": b""}), "no part of a wheel"),
    "the environment's mark": Case(whole({f"{DATA}/data/pyvenv.cfg": b""}), "environment itself"),
    "the environment's mark in capitals": Case(
        whole({f"{DATA}/data/PYVENV.cfg": b""}), "environment itself"
    ),
    "the store's mark": Case(whole({f"{DATA}/data/entry.json": b""}), "environment itself"),
    "our own folder": Case(whole({f"{DATA}/data/.zerostart/landed/numpy": b""}), "itself"),
    "half a file's name": Case(whole({"zs_bad/a.py.zs-part": b""}), "half a file"),
    "an interpreter among the scripts": Case(
        whole({f"{DATA}/scripts/python": b"#!/bin/sh\n"}), "environment itself"
    ),
    "an interpreter among the data": Case(
        whole({f"{DATA}/data/bin/python3": b"#!/bin/sh\n"}), "environment itself"
    ),
    "a script in a folder": Case(
        whole({f"{DATA}/scripts/a/b": b"#!python\n"}), "is a script below"
    ),
    "two parts with one file": Case(
        whole({f"{DATA}/purelib/zs_bad/__init__.py": b"evil"}), "as one file"
    ),
    "two parts with one file but for case": Case(
        whole({f"{DATA}/platlib/zs_BAD/__init__.py": b"evil"}), "as one file"
    ),
    "two parts with a file and a folder": Case(
        whole({f"{DATA}/purelib/zs_bad": b"evil"}), "both a file and a directory"
    ),
    "data for a script": Case(
        whole({f"{DATA}/scripts/zs": b"#!python\n", f"{DATA}/data/bin/zs": b"evil"}), "as one file"
    ),
    "another project's metadata, in a part": Case(
        whole({f"{DATA}/purelib/pip-1.0.dist-info/METADATA": b""}), "pass for the metadata"
    ),
    "its own metadata, in a part": Case(
        whole({f"{DATA}/purelib/{INFO}/INSTALLER": b"evil"}), "pass for the metadata"
    ),
    "a folder for who installed it": Case(whole({f"{INFO}/INSTALLER/x": b""}), "is a directory"),
    # programs
    "a program above": Case(script("../evil"), "no name for a program"),
    "a program below": Case(script("a/evil"), "no name for a program"),
    "an absolute program": Case(script("/tmp/evil"), "no name for a program"),
    "a program of no name": Case(script(""), "cannot be read|no name for a program"),
    "a program called two dots": Case(script(".."), "no name for a program"),
    "a program with an escape": Case(script("a\x1b[2J"), "no name for a program"),
    "a long program": Case(script("a" * 300), "no name for a program"),
    "a program called python": Case(script("python"), "stand in for the interpreter"),
    "a program called python3.11": Case(script("python3.11"), "stand in for the interpreter"),
    "a program of two statements": Case(script("a", "os:system; import evil"), "can be called"),
    "a program with a call": Case(script("a", "os:system('evil')"), "can be called"),
    "a program on two lines": Case(script("a", "os:system\n import evil"), "can be called"),
    "a program of a module": Case(script("a", "zs_bad"), "can be called"),
    "a program with room in its name": Case(script("a b"), "no name for a program"),
    "a program with room in its object": Case(script("a", "zs_bad : main"), "can be called"),
    "a program of nothing": Case(script("a", ""), "can be called"),
    "programs in no section": Case(points("evil = zs_bad:main\n"), "cannot be read"),
    "programs in Latin-1": Case(
        pack(
            replace(each, content=b"[x]\na = \xe9\n") if "entry_points" in each.name else each
            for each in members(NAME, VERSION, FILES, entry_points="[x]\n")
        ),
        "cannot be read",
    ),
}

VALID: dict[str, Case] = {
    "plain": Case(whole()),
    "directories of its own": Case(
        pack([Entry("zs_bad/", method=0, mode=0o040755), *members(NAME, VERSION, FILES)])
    ),
    "a directory of nothing, deflated": Case(
        pack([Entry("zs_bad/", mode=0o040755), *members(NAME, VERSION, FILES)])
    ),
    "a name beyond ASCII": Case(whole({"zs_bad/é.txt": b"1"})),
    "a second name that is the first": Case(changed(CODE, extra=unicode_path(CODE.encode()))),
    "stored members": Case(changed(CODE, method=0)),
    "a descriptor": Case(changed(CODE, described=True)),
    "zip64 sizes": Case(changed(CODE, wide=True)),
    "a zip64 end record": Case(wide_end(whole())),
    "a directory in another order": Case(shuffled(whole())),
    "an unknown extra field": Case(changed(CODE, extra=struct.pack("<2H4s", 0xCAFE, 4, b"abcd"))),
    "extra fields in front only": Case(
        changed(CODE, local={"extra": struct.pack("<2H4s", 0xCAFE, 4, b"abcd")})
    ),
    "packed on another system": Case(changed(CODE, host=0)),
    "no mode": Case(changed(CODE, mode=0)),
    "empty members": Case(whole({"zs_bad/py.typed": b""})),
    "every part": Case(
        whole(
            {
                f"{DATA}/purelib/zs_bad/pure.py": b"",
                f"{DATA}/platlib/zs_bad/plat.py": b"",
                f"{DATA}/scripts/zs-bad": b"#!python\nprint(1)\n",
                f"{DATA}/scripts/zs-bad-shell": b"#!/bin/sh\n",
                f"{DATA}/data/share/zs_bad/x": b"x",
                f"{DATA}/headers/zs_bad.h": b"",
            }
        )
    ),
    "programs": Case(
        points(
            "[console_scripts]\na.b-c = zs_bad:main\nd = zs_bad.x:A.b [extra]\n[other]\nx=%(y)s\n"
        )
    ),
    "no line after the last in RECORD": Case(with_record(rows().rstrip("\n"))),
    "carriage returns in RECORD": Case(with_record(rows().replace("\n", "\r\n"))),
    "other digests": Case(with_record(rows(f"{CODE},sha512=abc,", without=CODE))),
    "a name written otherwise": Case(metadata("Name: Zs.Bad\nVersion: 1.0.0\n")),
    "a wheel renamed for a platform": Case(whole(), filename="zs_bad-1.0-1-py3-none-any.whl"),
    "a later format of one kind": Case(
        wheel_file("Wheel-Version: 1.9\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    ),
}
