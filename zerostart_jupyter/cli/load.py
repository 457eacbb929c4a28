"""`zerostart load`: load a checkpoint and say how fast it came, against the disk itself."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from zerostart_jupyter.cli import output

HELP = "load a checkpoint and report bytes, seconds, GB/s and share of the disk's own speed"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument(
        "path", help="a safetensors file, an index, a directory, a hub id or an http(s) address"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda:0, auto (default)")
    parser.add_argument("--dtype", help="convert floating tensors: bf16, f16, f32, f64")
    parser.add_argument(
        "--reader", default="auto", choices=("auto", "mmap", "direct", "cufile"), help="how to read"
    )
    output.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Load, then read a part of the same files uncached to know what the disk can do."""
    from zerostart_jupyter import load as engine
    from zerostart_jupyter.load import disk
    from zerostart_jupyter.load.checkpoint import open_checkpoint

    cached = 0.0
    if Path(args.path).expanduser().exists():
        with open_checkpoint(args.path) as checkpoint:
            cached = disk.cached([shard.path for shard in checkpoint.shards])
    with output.progress(args):
        weights = engine.load(args.path, device=args.device, dtype=args.dtype, reader=args.reader)
    body: dict[str, Any] = {
        **weights.as_json(),
        "cached_before": round(cached, 3),
        "disk_gb_per_second": None,
        "disk_share": None,
    }
    speed = disk.probe(weights.files)
    if speed is not None:
        body["disk_gb_per_second"] = round(speed.gb_per_second, 3)
        body["disk_share"] = round(weights.gb_per_second / speed.gb_per_second, 3)
    output.emit(args, body, _text(body))
    return 0


def _text(body: dict[str, Any]) -> str:
    lines = [
        f"{body['tensors']} tensors, {body['bytes'] / (1 << 30):.2f} GiB on {body['device']} in "
        f"{body['seconds']:.2f} s: {body['gb_per_second']:.2f} GB/s by {body['reader']}."
    ]
    downloaded = body["statistics"].get("downloaded_bytes")
    if downloaded:
        lines.append(f"{downloaded / (1 << 30):.2f} GiB came over the network, and are kept.")
    elif body["disk_share"] is None:
        lines.append("The disk's own speed is unknown: its file system has no O_DIRECT.")
    else:
        lines.append(
            f"That is {body['disk_share']:.0%} of the disk's own {body['disk_gb_per_second']:.2f} "
            f"GB/s (read past the page cache); {body['cached_before']:.0%} of the files were in "
            "memory before."
        )
    return "\n".join(lines)
