"""Drawings of a report as inline SVG: curves, dots, what each rank holds, digits.

A few hundred shapes do not need a plotting library. Colors are classes of the page's
style sheet, so that the page decides about dark and light.
"""

import html
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from parallel_params.plan.plan import Plan
from parallel_params.plan.policy import Kind
from parallel_params.plan.text import format_bytes

_WIDTH, _HEIGHT = 460, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 22, 12, 34
_MAX_POINTS = 300
_MAX_DOTS = 500
_PICTURE = 72
_STRIP, _ROW = 560, 18
_MAX_RANKS = 16


def draw_curve(
    points: Sequence[tuple[int, float]], name: str, *, has_dots: bool = False
) -> str:
    """Draw values over steps; more than fit are averaged over neighbours.

    Values that span more than a decade get a logarithmic axis; those that are no
    numbers, of steps that were skipped, are left out.

    Args:
        points: (step, value), in order of steps.
        name: what a screen reader calls it.
        has_dots: mark every point.
    """
    points = [point for point in points if math.isfinite(point[1])]
    if not points:
        return "<p>nothing was noted</p>"
    steps, values = _thinned(points)
    low, high = float(values.min()), float(values.max())
    is_log = low > 0 and high > 10 * low
    ticks = _decades(low, high) if is_log else _even_ticks(low, high)
    low, high = min(low, ticks[0]), max(high, ticks[-1])
    scale: Callable[[float], float] = math.log10 if is_log else float
    bottom, span = scale(low), (scale(high) - scale(low)) or 1.0
    last = points[-1][0]

    def x_of(step: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * step / last

    def y_of(value: float) -> float:
        inner = _HEIGHT - _TOP - _BOTTOM
        return _TOP + inner * (1 - (scale(value) - bottom) / span)

    places = [
        (x_of(s), y_of(v)) for s, v in zip(steps.tolist(), values.tolist(), strict=True)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in places)
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{html.escape(name)} by step">'
        f"{''.join(_grid_line(y_of(tick), f'{tick:.4g}') for tick in ticks)}"
        f"{''.join(_step_label(x_of(step), step) for step in (0, last // 2, last))}"
        f'<polyline class="line" points="{line}"/>{dots if has_dots else ""}</svg>'
    )


def _thinned(
    points: Sequence[tuple[int, float]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    table = np.array(points, dtype=np.float64)
    if len(table) > _MAX_POINTS:
        table = np.array(
            [part.mean(axis=0) for part in np.array_split(table, _MAX_POINTS)]
        )
    return table[:, 0], table[:, 1]


def _decades(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return [10.0**power for power in range(first, last + 1)]


def _even_ticks(low: float, high: float) -> list[float]:
    """Choose about five round numbers that enclose the values."""
    rough = (high - low) / 4 or abs(high) / 4 or 1.0
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(m * unit for m in (1, 2, 2.5, 5, 10) if m * unit >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def _grid_line(y: float, label: str) -> str:
    return (
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" '
        f'y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
    )


def _step_label(x: float, step: int) -> str:
    text = "step 0" if step == 0 else str(step)
    return f'<text x="{x:.1f}" y="{_HEIGHT - 12}" text-anchor="middle">{text}</text>'


def draw_scatter(across: NDArray[np.float64], up: NDArray[np.float64]) -> str:
    """Draw a dot for each pair of values, and the line on which both are the same.

    Args:
        across: [num] finite values; more than 500 are thinned out.
        up: [num] values; those that are not finite are left out.
    """
    step = -(-len(across) // _MAX_DOTS)
    is_shown = np.isfinite(up)
    across, up = across[is_shown][::step], up[is_shown][::step]
    if not len(across):
        return "<p>nothing was noted</p>"
    ticks = _even_ticks(
        float(min(across.min(), up.min())), float(max(across.max(), up.max()))
    )
    low, span = ticks[0], ticks[-1] - ticks[0]

    def x_of(value: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (value - low) / span

    def y_of(value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - (value - low) / span)

    dots = "".join(
        f'<circle cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="3"/>'
        for x, y in zip(across.tolist(), up.tolist(), strict=True)
    )
    first, last = ticks[0], ticks[-1]
    labels = "".join(
        f'<text x="{x_of(tick):.1f}" y="{_HEIGHT - 12}" text-anchor="middle">'
        f"{tick:.4g}</text>"
        for tick in ticks
    )
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="what was said over what is">'
        f"{''.join(_grid_line(y_of(tick), f'{tick:.4g}') for tick in ticks)}{labels}"
        f'<line class="same" x1="{x_of(first):.1f}" y1="{y_of(first):.1f}" '
        f'x2="{x_of(last):.1f}" y2="{y_of(last):.1f}"/>{dots}</svg>'
    )


def draw_holdings(plan: Plan) -> str:
    """Draw which stretch of all parameters each rank holds, by kind."""
    sections = [_strips(plan, kind) for kind in Kind]
    more = plan.mesh.size - _MAX_RANKS
    if more > 0:
        sections.append(f"<p class=facts>and {more} more ranks</p>")
    return "".join(sections)


def _strips(plan: Plan, kind: Kind) -> str:
    ranks = range(min(plan.mesh.size, _MAX_RANKS))
    height = _ROW * len(ranks)
    rows = "".join(_strip(plan, kind, rank) for rank in ranks)
    return (
        f"<h3>{kind.value}</h3>"
        f'<svg class="strips {kind.name.lower()}" viewBox="0 0 {_STRIP + 150} {height}"'
        f' role="img" aria-label="who holds the {kind.value}">{rows}</svg>'
    )


def _strip(plan: Plan, kind: Kind, rank: int) -> str:
    """Draw the row of a rank: all buckets side by side, what it holds filled."""
    y = _ROW * rank
    scale = _STRIP / max(sum(bucket.numel for bucket in plan.buckets), 1)
    size = format_bytes(plan.bytes_per_rank(rank).of(kind))
    parts = [
        f'<text x="0" y="{y + 13}">rank {rank}</text>',
        f'<text x="{_STRIP + 70}" y="{y + 13}">{size}</text>',
    ]
    for start, numel, held in _stretches(plan, kind, rank):
        parts.append(_box("all", 60 + start * scale, y, numel * scale))
        if held[1] > held[0]:
            first, last = ((start + element) * scale for element in held)
            parts.append(_box("held", 60 + first, y, last - first))
    return "".join(parts)


def _stretches(
    plan: Plan, kind: Kind, rank: int
) -> Iterator[tuple[int, int, tuple[int, int]]]:
    """Give the start and length of each bucket, and what a rank holds within it."""
    start = 0
    for bucket in plan.buckets:
        held = (0, 0)
        if bucket.num_copies(kind):
            interval = plan.held(bucket, kind, rank)
            held = (interval.start, interval.stop)
        yield start, bucket.numel, held
        start += bucket.numel


def _box(look: str, x: float, y: float, width: float) -> str:
    return (
        f'<rect class="{look}" x="{x:.1f}" y="{y + 2}" width="{width:.1f}" '
        f'height="{_ROW - 4}"/>'
    )


def draw_picture(pixels: NDArray[np.float32]) -> str:
    """Draw a [height, width] picture whose pixels go from 0 to 1, the darkest."""
    height, width = pixels.shape
    cells = "".join(
        f'<rect x="{x}" y="{y}" width="1" height="1" '
        f'fill="rgb({shade},{shade},{shade})"/>'
        for (y, x), shade in np.ndenumerate((255 * (1 - pixels)).astype(int))
        if shade < 255
    )
    return (
        f'<svg class="picture" width="{_PICTURE}" viewBox="0 0 {width} {height}" '
        f'shape-rendering="crispEdges">{cells}</svg>'
    )
