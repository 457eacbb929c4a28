"""The options of `install` and `run` that say what is wanted and where it comes from."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zerostart_jupyter.install import IndexOptions


def add_index_arguments(parser: argparse.ArgumentParser) -> None:
    """Where packages come from, beyond uv's and pip's own settings."""
    parser.add_argument("--index-url", help="the index to ask instead of the configured one")
    parser.add_argument(
        "--extra-index-url", action="append", default=[], help="one more index to ask"
    )
    parser.add_argument(
        "--find-links", action="append", default=[], help="a directory or page with wheels"
    )
    parser.add_argument("--offline", action="store_true", help="use only what is already here")


def add_file_argument(parser: argparse.ArgumentParser) -> None:
    """Requirements files."""
    parser.add_argument(
        "-r",
        "--requirement",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="a requirements file",
    )


def index_options(args: argparse.Namespace) -> IndexOptions:
    """The index options that were given."""
    from zerostart_jupyter.install import IndexOptions

    return IndexOptions(
        index_url=args.index_url,
        extra_index_urls=tuple(args.extra_index_url),
        find_links=tuple(args.find_links),
        offline=args.offline,
    )
