"""One page about a run that a browser shows without network or script.

Inline SVG drawn here: two curves do not need a plotting library.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parallel_params.train.console import Row
from parallel_params.train.evaluation import Verdict

_WIDTH, _HEIGHT, _MARGIN = 640, 220, 44
_PIXEL = 5
_MAX_PICTURES = 48

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
       padding: 0 1rem; color: #222; background: #fff; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.facts { color: #555; } .big { font-size: 2rem; font-weight: 600; }
pre { background: #f5f5f2; padding: .8rem; overflow-x: auto; font-size: 12px; }
table { border-collapse: collapse; }
td, th { padding: .15rem .6rem; text-align: right; }
td.hit { background: #dcebd9; } td.miss { background: #f6d9d2; }
figure { display: inline-block; margin: .3rem; text-align: center; font-size: 12px; }
svg text { font: 11px system-ui, sans-serif; fill: #555; }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a report shows.

    Attributes:
        title: of the job.
        facts: lines below the title.
        rows: what was noted along the run.
        verdict: of the final weights.
        pictures: [num_test, height, width] test samples from 0 to 1, None if they are
            no pictures.
        plan: what is sharded where, as text.
        job: the resolved job, as text.
    """

    title: str
    facts: Sequence[str]
    rows: Sequence[Row]
    verdict: Verdict
    pictures: NDArray[np.float32] | None
    plan: str
    job: str


def write_report(page: Page) -> str:
    """Write a run as one HTML page."""
    looks = [row for row in page.rows if row.test_accuracy is not None]
    losses = [(row.step, row.loss) for row in page.rows]
    accuracies = [(row.step, row.test_accuracy or 0.0) for row in looks]
    facts = "<br>".join(html.escape(line) for line in page.facts)
    right = f"{page.verdict.num_right} of {len(page.verdict.labels)} test samples right"
    parts = [
        f"<h1>{html.escape(page.title)}</h1><p class=facts>{facts}</p>",
        f"<p><span class=big>{page.verdict.accuracy:.4f}</span> {right}</p>",
        f"<h2>Loss</h2>{_curve(losses, 'loss')}",
        f"<h2>Test accuracy</h2>{_curve(accuracies, 'test accuracy')}",
        f"<h2>What was taken for what</h2>{_confusion(page.verdict)}",
        _mistakes(page),
        f"<h2>What is sharded where</h2><pre>{html.escape(page.plan)}</pre>",
        f"<h2>The job</h2><pre>{html.escape(page.job)}</pre>",
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{html.escape(page.title)}</title><style>{_STYLE}</style></head>\n"
        f"<body>{chr(10).join(parts)}</body></html>\n"
    )


def _curve(points: Sequence[tuple[int, float]], name: str) -> str:
    """Draw points (step, value) as a line, with the ends of both axes named."""
    if not points:
        return "<p>nothing was noted</p>"
    steps, values = zip(*points, strict=True)
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    inner = _WIDTH - 2 * _MARGIN
    places = [
        (
            _MARGIN + inner * step / max(steps),
            _HEIGHT - 24 - (_HEIGHT - 40) * (value - low) / span,
        )
        for step, value in points
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in places)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img" '
        f'aria-label="{name} by step"><g fill="none" stroke="#2a6f97" '
        f'stroke-width="1.8"><polyline points="{line}"/></g>'
        f'<g fill="#2a6f97">{dots}</g>'
        f'<text x="2" y="20">{high:.4g}</text>'
        f'<text x="2" y="{_HEIGHT - 20}">{low:.4g}</text>'
        f'<text x="{_MARGIN}" y="{_HEIGHT - 4}">step 0</text>'
        f'<text x="{_WIDTH - _MARGIN}" y="{_HEIGHT - 4}" text-anchor="end">'
        f"{max(steps)}</text></svg>"
    )


def _confusion(verdict: Verdict) -> str:
    """Count which class was taken for which."""
    num = int(max(verdict.labels.max(), verdict.chosen.max())) + 1
    counts = np.zeros((num, num), dtype=np.int64)
    np.add.at(counts, (verdict.labels, verdict.chosen), 1)
    head = "".join(f"<th>{c}</th>" for c in range(num))
    lines = []
    for label in range(num):
        cells = "".join(
            f"<td{_color(label == c, n)}>{n or ''}</td>"
            for c, n in enumerate(counts[label].tolist())
        )
        lines.append(f"<tr><th>{label}</th>{cells}</tr>")
    return (
        f"<table><tr><th></th>{head}</tr>{''.join(lines)}</table>"
        "<p class=facts>A row per true class, a column per chosen one.</p>"
    )


def _color(is_right: bool, count: int) -> str:
    if not count:
        return ""
    return " class=hit" if is_right else " class=miss"


def _mistakes(page: Page) -> str:
    """Draw the test pictures that were taken for something else."""
    if page.pictures is None:
        return ""
    wrong = np.flatnonzero(page.verdict.chosen != page.verdict.labels)
    figures = "".join(
        f"<figure>{_picture(page.pictures[i])}<figcaption>{page.verdict.labels[i]} "
        f"taken for {page.verdict.chosen[i]}</figcaption></figure>"
        for i in wrong[:_MAX_PICTURES].tolist()
    )
    return f"<h2>The {len(wrong)} mistakes</h2>{figures}"


def _picture(pixels: NDArray[np.float32]) -> str:
    height, width = pixels.shape
    cells = "".join(
        f'<rect x="{x * _PIXEL}" y="{y * _PIXEL}" width="{_PIXEL}" height="{_PIXEL}" '
        f'fill="rgb({shade},{shade},{shade})"/>'
        for (y, x), shade in np.ndenumerate((255 * (1 - pixels)).astype(int))
        if shade < 255
    )
    return (
        f'<svg width="{width * _PIXEL}" height="{height * _PIXEL}" '
        f'style="border:1px solid #ddd">{cells}</svg>'
    )
