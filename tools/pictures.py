"""`make screenshots`: the pictures of docs/pictures/, made of what the browser tests have kept.

Run after tests/e2e/test_panel.py and test_story.py, or with `--run` to run them first. Pictures
are small: few colours are enough for a user interface.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from steps import PYTHON, ROOT, Failed, main_guard, run, say, step

KEPT = ROOT / "tests" / "artifacts"
PICTURES = ROOT / "docs" / "pictures"
TESTS = ["tests/e2e/test_panel.py::test_each_state_is_told_to_everybody", "tests/e2e/test_story.py"]
LIMIT = 150_000  # bytes of a picture
COLOURS = (128, 64, 48, 32)  # as many of them as the limit allows
GAP = 12  # pixels between pictures side by side

PANEL = (33, 28, 284, 776)  # left, top, right and bottom, in a window of 1280 by 800
SIDE_BY_SIDE = ("several-operations", "a-gpu-and-a-parked-kernel", "snapshots-of-each-sort")
CROPS = {
    "undo": ("marks-with-a-gap", (300, 96, 760, 218)),
    "missing-import": ("first-sight", (372, 364, 1040, 494)),
}
LONG, SHORT = 2400, 1200  # milliseconds for which a picture of the story stays
RESTS = ("imported-meanwhile", "saved", "restarted", "restored", "goes-on")


def main() -> None:
    if "--run" in sys.argv[1:]:
        run([PYTHON, "-m", "pytest", "-q", "-m", "", *TESTS])
    PICTURES.mkdir(parents=True, exist_ok=True)
    with step("pictures of the panel"):
        for theme in ("light", "dark"):
            shots = [opened(f"panel-{state}-{theme}").crop(PANEL) for state in SIDE_BY_SIDE]
            keep(beside(shots), f"panel-{theme}")
        for name, (state, box) in CROPS.items():
            keep(opened(f"panel-{state}-light").crop(box), name)
    with step("the moving picture"):
        frames = sorted((KEPT / "story").glob("*.png"))
        if not frames:
            raise Failed("The story was not told: run `make screenshots`.")
        move(frames, "story")


def opened(name: str) -> Image.Image:
    """A picture that a test has kept."""
    path = KEPT / f"{name}.png"
    if not path.exists():
        raise Failed(f"{path.name} was not kept: run `make screenshots`.")
    return Image.open(path).convert("RGB")


def beside(pictures: Sequence[Image.Image]) -> Image.Image:
    """One picture of several, from left to right on the first one's ground."""
    width = sum(each.width for each in pictures) + GAP * (len(pictures) - 1)
    height = max(each.height for each in pictures)
    whole = Image.new("RGB", (width, height), pictures[0].getpixel((1, pictures[0].height - 1)))
    left = 0
    for each in pictures:
        whole.paste(each, (left, 0))
        left += each.width + GAP
    return whole


def keep(picture: Image.Image, name: str) -> None:
    """Write a picture of as many colours as its size allows."""
    path = PICTURES / f"{name}.png"
    for colours in COLOURS:
        picture.quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)
        if fits(path):
            return
    raise Failed(f"{path.name} is larger than {LIMIT} bytes: show less in it.")


def move(paths: Sequence[Path], name: str) -> None:
    """Write an animation that shows each picture for a while, and the telling ones for longer.

    It is an animated PNG: what cannot show one shows its first picture.
    """
    path = PICTURES / f"{name}.png"
    frames = [Image.open(each).convert("RGB") for each in paths]
    stays = [LONG if each.stem.partition("-")[2] in RESTS else SHORT for each in paths]
    for colours in COLOURS:
        palette = beside(frames).quantize(colours, dither=Image.Dither.NONE)
        few = [each.quantize(palette=palette, dither=Image.Dither.NONE) for each in frames]
        few[0].save(
            path, save_all=True, append_images=few[1:], duration=stays, loop=0, optimize=True
        )
        if fits(path):
            return
    raise Failed(f"{path.name} is larger than {LIMIT} bytes: tell less.")


def fits(path: Path) -> bool:
    size = path.stat().st_size
    if size <= LIMIT:
        say(f"  {path.relative_to(ROOT)}: {size / 1000:.0f} kB")
    return size <= LIMIT


if __name__ == "__main__":
    main_guard(main)
