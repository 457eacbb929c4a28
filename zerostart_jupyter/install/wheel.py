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

from packaging.tags import parse_tag
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from zerostart_jupyter.install.archive import Member, folded, reject
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
RESERVED = frozenset({"entry.json", "pyvenv.cfg", ".zerostart"})  # ours, in an environment's root


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
    places: dict[str, str] = {}
    taken: dict[str, str] = {}
    for file in files:
        place = _place(file, data_dir, wheel)
        other = taken.setdefault(folded(place), file)
        if other != file:
            reject(wheel, f"{file!r} and {other!r} would become one file")
        places[file] = place
    for needed in ("METADATA", "WHEEL", "RECORD"):
        if f"{dist_info}/{needed}" not in places:
            reject(wheel, f"it has no {needed}")
    site = [
        place.removeprefix(f"{SITE}/")
        for place in places.values()
        if place.startswith(f"{SITE}/") and not place.startswith(f"{SITE}/{dist_info}/")
    ]
    return Layout(wheel, name, version, dist_info, places, import_names(site))


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
    if scheme == "data" and path.partition("/")[0] in RESERVED:
        reject(wheel, f"{file!r} would replace a file of the environment itself")
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
    name, version = message.get("Name"), message.get("Version")
    if not name or not version:
        reject(wheel, "its METADATA names no project or no version")
    return Metadata(str(name), str(version), tuple(map(str, message.get_all("Requires-Dist", []))))


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
    inside = {tag for text in message.get_all("Tag", []) for tag in parse_tag(str(text).strip())}
    if not inside & parse_wheel_filename(layout.wheel)[3]:
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
