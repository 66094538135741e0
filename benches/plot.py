"""A plot of lines as a small SVG, with a logarithmic vertical axis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 360, 60, 170, 16, 44
COLOURS = ("#0b6bcb", "#d1495b", "#2e8540", "#b07d00", "#7a3e9d", "#00798c", "#5f6368")


def line_plot(lines: Mapping[str, Sequence[tuple[float, float]]], across: str, up: str, *, log_x: bool = False) -> str:
    """Lines by name; each is a list of points. Values on a logarithmic axis must be positive."""

    def scaled(value: float) -> float:
        return math.log10(value) if log_x else value

    xs = [scaled(x) for points in lines.values() for x, _ in points] or [0.0]
    ys = [math.log10(y) for points in lines.values() for _, y in points] or [0.0]
    low_x, high_x = min(xs), max(*xs, min(xs) + 1e-9)
    low_y, high_y = math.floor(min(ys)), max(math.ceil(max(ys)), math.floor(min(ys)) + 1)
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        right = LEFT + wide * (scaled(x) - low_x) / (high_x - low_x)
        return right, TOP + high * (high_y - math.log10(y)) / (high_y - low_y)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"',
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
    ]
    for exponent in range(low_y, high_y + 1):
        y = TOP + high * (high_y - exponent) / (high_y - low_y)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{LEFT + wide}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{10**exponent:,g}</text>')
    for step in range(5):
        value = low_x + (high_x - low_x) * step / 4
        x = LEFT + wide * step / 4
        shown = f"{10**value:,.0f}" if log_x else f"{value:.3g}"
        parts.append(f'<text x="{x:.1f}" y="{TOP + high + 16}" text-anchor="middle">{shown}</text>')
    for number, (name, points) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        at = [place(x, y) for x, y in sorted(points)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in at]
        y = TOP + 14 + 18 * number
        parts.append(f'<text x="{LEFT + wide + 14}" y="{y}" fill="{colour}">{escape(name)}</text>')
    middle = TOP + high / 2
    parts.append(f'<text x="{LEFT + wide / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(across)}</text>')
    turned = f'transform="rotate(-90 14 {middle})"'
    parts.append(f'<text x="14" y="{middle}" text-anchor="middle" {turned}>{escape(up)}</text></svg>')
    return "\n".join(parts) + "\n"
