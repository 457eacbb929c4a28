"""One load over time as a drawing: what had arrived when, beside what the disk could have sent."""

from __future__ import annotations

import html
from collections.abc import Sequence

WIDTH, HEIGHT = 720, 320
LEFT, RIGHT, TOP, BOTTOM = 56, 150, 24, 40

Points = Sequence[tuple[float, float]]


def timeline(title: str, lines: Sequence[tuple[str, Points]], ceiling: float | None) -> str:
    """An SVG of bytes over seconds: a line for each name, dashed the disk's own speed.

    `ceiling` is bytes a second. Each line's points are (seconds, bytes), in order.
    """
    last = max((at for _, points in lines for at, _ in points), default=0) or 1.0
    most = max((count for _, points in lines for _, count in points), default=0) or 1.0

    def at(seconds: float, count: float) -> str:
        x = LEFT + seconds / last * (WIDTH - LEFT - RIGHT)
        y = HEIGHT - BOTTOM - count / most * (HEIGHT - TOP - BOTTOM)
        return f"{x:.1f},{y:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'role="img" aria-label="{html.escape(title)}" font-family="system-ui" font-size="12">',
        f'<text x="{LEFT}" y="14" font-size="14">{html.escape(title)}</text>',
        f'<path d="M{at(0, most)} L{at(0, 0)} L{at(last, 0)}" fill="none" stroke="#888"/>',
    ]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = at(last * share, 0).split(",")
        parts.append(
            f'<text x="{x}" y="{HEIGHT - 20}" text-anchor="middle">{last * share:.2f} s</text>'
        )
        x, y = at(0, most * share).split(",")
        parts.append(f'<text x="{LEFT - 6}" y="{y}" text-anchor="end">{_size(most * share)}</text>')
    if ceiling:
        stop = min(last, most / ceiling)
        parts.append(
            f'<path d="M{at(0, 0)} L{at(stop, stop * ceiling)}" fill="none" stroke="#888" '
            f'stroke-dasharray="6 4"/>{_label(at(stop, stop * ceiling), "the disk alone", "#666")}'
        )
    for number, (name, points) in enumerate(lines):
        colour = f"hsl({(number * 67 + 210) % 360} 70% 40%)"
        drawn = " L".join(at(*point) for point in points)
        parts.append(f'<path d="M{drawn}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(_label(at(*points[-1]), name, colour))
    return "\n".join([*parts, "</svg>"])


def _label(place: str, text: str, colour: str) -> str:
    x, y = place.split(",")
    return f'<text x="{float(x) + 6:.1f}" y="{y}" fill="{colour}">{html.escape(text)}</text>'


def _size(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
