"""What a wheel must look like, and where each of its members goes.

Rules: the binary distribution format (PEP 427 and the PyPA specification "Binary distribution
format") and "Recording installed projects" for RECORD. Where pip and uv differ, the stricter.
"""

from __future__ import annotations

import csv
import email.parser
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from zerostart_jupyter.install.activation import PYTHON
from zerostart_jupyter.install.archive import Member, clash, folded, reject
from zerostart_jupyter.install.entry_points import is_python
from zerostart_jupyter.install.imports import ImportNames, import_names

SITE, SCRIPTS, DATA, HEADERS = "site", "scripts", "data", "headers"
_SCHEMES = {
    "purelib": SITE,
    "platlib": SITE,
    "scripts": SCRIPTS,
    "data": DATA,
    "headers": HEADERS,
}
_BLANK = re.compile(r"(?<=\n)\r?\n")
_UNRECORDED = ("RECORD", "RECORD.jws", "RECORD.p7s")
_OURS = frozenset({"entry.json", "pyvenv.cfg", ".zerostart"})  # in an environment's root
_WRITTEN = ("INSTALLER", "REQUESTED", "direct_url.json")  # by installers, into a dist-info
_PART = ".zs-part"  # what a file is called until it takes its place
_LARGEST = {"METADATA": 16 << 20, "WHEEL": 1 << 20, "entry_points.txt": 16 << 20}  # bytes
_LARGEST_RECORD = 128 << 20
_WEAK = ("md5", "sha1")  # "Recording installed projects" forbids them


@dataclass(frozen=True, slots=True)
class Layout:
    """A wheel's members with their places in the store, `<scheme>/<path>`, and what they say.

    `dist_info` is the directory's name; `places` leaves out directory entries.
    """

    wheel: str
    name: str
    version: str
    dist_info: str
    places: dict[str, str]
    names: ImportNames

    def member(self, file: str) -> str:
        """The name of a file of the dist-info directory."""
        return f"{self.dist_info}/{file}"


@dataclass(frozen=True, slots=True)
class Metadata:
    """The part of METADATA that an installer needs; requirements are unparsed."""

    name: str
    version: str
    requires: tuple[str, ...]


def lay_out(members: Sequence[Member], wheel: str, name: str, version: str) -> Layout:
    """Where each member goes; raises WheelRejected for one that has no place to go."""
    files = [member.name for member in members if not member.directory]
    dist_info = _dist_info(files, wheel, name, version)
    data_dir = dist_info.removesuffix(".dist-info") + ".data"
    places = {file: _place(file, data_dir, wheel) for file in files}
    _check_landing(places, dist_info, name, wheel)
    _check_sizes(members, dist_info, wheel)
    for needed in ("METADATA", "WHEEL", "RECORD"):
        if f"{dist_info}/{needed}" not in places:
            reject(wheel, f"it has no {needed}")
    site = [
        place.removeprefix(f"{SITE}/")
        for place in places.values()
        if place.startswith(f"{SITE}/") and not place.startswith(f"{SITE}/{dist_info}/")
    ]
    return Layout(wheel, name, version, dist_info, places, import_names(site))


def _check_landing(places: dict[str, str], dist_info: str, name: str, wheel: str) -> None:
    bases = {
        SITE: f"lib/{PYTHON}/site-packages/",
        SCRIPTS: "bin/",
        HEADERS: f"include/site/{PYTHON}/{name}/",
        DATA: "",
    }
    landed = {}
    moved = False
    for file, place in places.items():
        scheme, _, path = place.partition("/")
        at = landed[file] = bases[scheme] + path
        if file.endswith(_PART):
            reject(wheel, f"{file!r} bears the name of half a file")
        if path == file:
            continue
        moved = True
        top, _, below = at.partition("/")
        if folded(top) in _OURS or (top == "bin" and is_python(below)):
            reject(wheel, f"{file!r} would replace a file of the environment itself")
        folder, _, below = at.removeprefix(bases[SITE]).partition("/")
        if at.startswith(bases[SITE]) and below and folder.lower().endswith(".dist-info"):
            reject(wheel, f"{file!r} would pass for the metadata of an installed project")
    for each in _WRITTEN:
        if any(file.startswith(f"{dist_info}/{each}/") for file in places):
            reject(wheel, f"{dist_info}/{each} is a directory")
    if moved and (trouble := clash((at, file) for file, at in landed.items())):
        reject(wheel, trouble)


def _check_sizes(members: Sequence[Member], dist_info: str, wheel: str) -> None:
    # These are read into memory as a whole.
    for member in members:
        folder, _, file = member.name.rpartition("/")
        if folder == dist_info:
            limit = _LARGEST_RECORD if file == "RECORD" else _LARGEST.get(file)
            if limit is not None and member.size > limit:
                reject(wheel, f"its {file} has {member.size} bytes")


def _dist_info(files: Iterable[str], wheel: str, name: str, version: str) -> str:
    found = {file.partition("/")[0] for file in files if "/" in file}
    found = {each for each in found if each.lower().endswith(".dist-info")}
    if len(found) != 1:
        reject(wheel, f"it has {len(found)} dist-info directories and not one")
    (dist_info,) = found
    stem, _, release = dist_info.removesuffix(".dist-info").partition("-")
    _same(wheel, dist_info, stem, release, name, version)
    return dist_info


def _same(wheel: str, where: str, stem: str, release: str, name: str, version: str) -> None:
    try:
        same = canonicalize_name(stem) == canonicalize_name(name)
        same = same and Version(release) == Version(version)
    except InvalidVersion:
        same = False
    if not same:
        reject(wheel, f"{where} speaks of {stem} {release}, and {name} {version} was asked for")


def _place(file: str, data_dir: str, wheel: str) -> str:
    top, _, rest = file.partition("/")
    if not top.lower().endswith(".data") or not rest:
        return f"{SITE}/{file}"
    scheme, _, path = rest.partition("/")
    if top != data_dir or scheme not in _SCHEMES or not path:
        reject(wheel, f"{file!r} is in no part of a wheel that can be installed")
    if scheme == "scripts" and "/" in path:
        reject(wheel, f"{file!r} is a script below the directory of scripts")
    return f"{_SCHEMES[scheme]}/{path}"


def check_filename(wheel: str, name: str, version: str) -> None:
    """Raise WheelRejected unless the file's name says this name and version."""
    try:
        stem, release, _, _ = parse_wheel_filename(wheel)
    except InvalidWheelFilename:
        reject(wheel, "its name is not a wheel's name")
    _same(wheel, "its file name", stem, str(release), name, version)


def read_metadata(data: bytes, wheel: str) -> Metadata:
    """METADATA's name, version and requirements."""
    head = _BLANK.split(_text(data, "METADATA", wheel), maxsplit=1)[0]  # a README may follow
    message = email.parser.HeaderParser().parsestr(head)
    names, versions = message.get_all("Name", []), message.get_all("Version", [])
    if not names or not versions:
        reject(wheel, "its METADATA names no project or no version")
    if len(names) > 1 or len(versions) > 1:
        reject(wheel, "its METADATA names a project or a version twice")
    requires = tuple(map(str, message.get_all("Requires-Dist", [])))
    return Metadata(str(names[0]), str(versions[0]), requires)


def check_metadata(data: bytes, layout: Layout) -> Metadata:
    """The metadata, if it speaks of what was asked for; else WheelRejected."""
    metadata = read_metadata(data, layout.wheel)
    _same(
        layout.wheel,
        "its METADATA",
        metadata.name,
        metadata.version,
        layout.name,
        layout.version,
    )
    return metadata


def check_tags(data: bytes, layout: Layout) -> None:
    """Raise WheelRejected unless WHEEL is of format 1 and bears a tag of the file's name."""
    message = email.parser.HeaderParser().parsestr(_text(data, "WHEEL", layout.wheel))
    form = str(message.get("Wheel-Version", "")).strip()
    if form.partition(".")[0] != "1":
        reject(layout.wheel, f"its format version is {form or 'missing'} and not 1")
    # Compared part by part: all the tags that a line of dots stands for may be billions. The
    # platform may differ: well-known projects rename a wheel for another without changing it.
    wanted = layout.wheel.lower().removesuffix(".whl").split("-")[-3:]
    for line in message.get_all("Tag", []):
        tag = str(line).strip().lower().split("-")
        if len(tag) == 3 and all(
            set(one.split(".")) & set(other.split("."))
            for one, other in zip(tag[:2], wanted[:2], strict=True)
        ):
            return
    reject(layout.wheel, "its file name bears other tags than its WHEEL file")


def check_record(data: bytes, layout: Layout) -> None:
    """Raise WheelRejected unless RECORD lists every member, and nothing else."""
    text = _text(data, "RECORD", layout.wheel)
    try:
        rows = [row for row in csv.reader(io.StringIO(text), strict=True) if row]
    except csv.Error:
        reject(layout.wheel, "its RECORD cannot be read")
    listed = {row[0] for row in rows}
    if len(listed) != len(rows):
        reject(layout.wheel, "its RECORD lists a file twice")
    for row in rows:
        if len(row) != 3 or not (row[2].isdecimal() or not row[2]):
            reject(layout.wheel, f"its RECORD has a damaged line for {row[0]!r}")
        if row[1].partition("=")[0].lower() in _WEAK:
            reject(layout.wheel, f"its RECORD has no sound digest of {row[0]!r}")
    present = layout.places.keys() - {layout.member(name) for name in _UNRECORDED}
    if unrecorded := sorted(present - listed):
        reject(layout.wheel, f"its RECORD does not list {unrecorded[0]!r}")
    if absent := sorted(listed - layout.places.keys()):
        reject(layout.wheel, f"its RECORD lists {absent[0]!r}, which is not there")


def _text(data: bytes, file: str, wheel: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        reject(wheel, f"its {file} is not in UTF-8")
