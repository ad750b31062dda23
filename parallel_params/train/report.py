"""One page about a run that a browser shows without network or script.

What it shows is collected by the journal and drawn by `charts`.
"""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parallel_params.plan.plan import Plan
from parallel_params.train.charts import draw_curve, draw_holdings, draw_picture
from parallel_params.train.console import Row, grouped
from parallel_params.train.evaluation import Verdict
from parallel_params.train.result import TrainResult

_MAX_PICTURES = 48

_STYLE = """
:root { --ink: #1d2530; --soft: #66707c; --paper: #fff; --card: #f4f6f8;
  --line: #dde2e7; --weight: #2a6f97; --gradient: #e08e2b; --state: #4a9d6e;
  --bad: 205, 72, 51; --good: 74, 157, 110; color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --ink: #e5e9ee; --soft: #97a2ae;
  --paper: #15191e; --card: #1f252c; --line: #333c46; --weight: #3f87b3; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto;
  padding: 0 1rem; color: var(--ink); background: var(--paper); }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .5rem; }
h3 { font-size: .9rem; font-weight: 500; margin: .6rem 0 .1rem; }
.facts { color: var(--soft); margin: .3rem 0; }
.row { display: flex; flex-wrap: wrap; gap: 1rem; margin-top: 1rem; }
.row > * { flex: 1 1 9rem; }
.row > .wide { flex-basis: 26rem; }
.card { background: var(--card); border-radius: .6rem; padding: .7rem 1rem; }
.card b { display: block; font-size: 1.7rem; font-weight: 650; line-height: 1.25; }
.card.first { background: var(--weight); color: #fff; }
pre { background: var(--card); padding: .8rem; overflow-x: auto; font-size: 12px;
  border-radius: .6rem; }
summary { cursor: pointer; color: var(--soft); }
table { border-collapse: collapse; } td, th { padding: .15rem .6rem; }
table.matrix td, table.matrix th { min-width: 1.4rem; text-align: center; }
table.env td, table.env th { text-align: left; vertical-align: top; }
table.env th { font-weight: 500; color: var(--soft); }
figure { display: inline-block; margin: .3rem .5rem .3rem 0; text-align: center;
  font-size: 12px; } .picture { border: 1px solid var(--line); background: #fff; }
svg text { font: 12px system-ui, sans-serif; fill: var(--soft); }
.chart, .strips { width: 100%; height: auto; } .strips { max-width: 46rem; }
.grid { stroke: var(--line); } .line { fill: none; stroke: var(--weight);
  stroke-width: 2; stroke-linejoin: round; } .chart circle { fill: var(--weight); }
.all { fill: var(--card); stroke: var(--line); } .weight .held { fill: var(--weight); }
.gradient .held { fill: var(--gradient); } .state .held { fill: var(--state); }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a report shows.

    Attributes:
        title: of the job.
        facts: lines below the title.
        result: how the run ended.
        losses: of every step.
        rows: what was noted along the run.
        verdict: of the final weights.
        pictures: [num_test, height, width] test samples from 0 to 1, None if they are
            no pictures.
        plan: what was executed.
        traffic: what is sharded where and what was sent, as text.
        environment: of `describe_environment`.
        job: the resolved job, as text.
    """

    title: str
    facts: Sequence[str]
    result: TrainResult
    losses: Sequence[float]
    rows: Sequence[Row]
    verdict: Verdict
    pictures: NDArray[np.float32] | None
    plan: Plan
    traffic: str
    environment: Mapping[str, object]
    job: str


def write_report(page: Page) -> str:
    """Write a run as one HTML page."""
    facts = "<br>".join(html.escape(line) for line in page.facts)
    parts = [
        f"<h1>{html.escape(page.title)}</h1><p class=facts>{facts}</p>",
        _tiles(page),
        _curves(page),
        f"<h2>What was taken for what</h2>{_confusion(page.verdict)}",
        _mistakes(page),
        "<h2>What is sharded where</h2><p class=facts>All parameters side by side, "
        "bucket by bucket; colored is what a rank holds during a step.</p>",
        draw_holdings(page.plan),
        _folded_text("the plan, in numbers, and what was sent", page.traffic),
        f"<h2>Where it ran</h2>{_environment(page)}",
        f"<h2>The job</h2>{_folded_text('every key', page.job)}",
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(page.title)}</title><style>{_STYLE}</style></head>\n"
        f"<body>{chr(10).join(parts)}</body></html>\n"
    )


def _tiles(page: Page) -> str:
    result, verdict = page.result, page.verdict
    right = f"{verdict.num_right} of {len(verdict.labels)}"
    tiles = [
        (f"{verdict.accuracy:.4f}", f"test accuracy ({right})"),
        (f"{result.loss:.4f}", "loss of the last step"),
        (f"{result.seconds:.1f} s", f"for {grouped(result.num_steps)} steps"),
        (grouped(round(result.samples_per_s)), "samples per second"),
    ]
    cards = "".join(
        f'<div class="card{"" if i else " first"}"><b>{value}</b>{name}</div>'
        for i, (value, name) in enumerate(tiles)
    )
    return f'<div class="row">{cards}</div>'


def _curves(page: Page) -> str:
    losses = list(enumerate(page.losses, start=1))
    looks = [
        (row.step, row.test_accuracy)
        for row in page.rows
        if row.test_accuracy is not None
    ]
    accuracy = draw_curve(looks, "test accuracy", has_dots=True)
    return (
        f'<div class="row"><div class="wide"><h2>Loss</h2>{draw_curve(losses, "loss")}'
        f'</div><div class="wide"><h2>Test accuracy</h2>{accuracy}</div></div>'
    )


def _folded_text(name: str, text: str) -> str:
    return f"<details><summary>{name}</summary><pre>{html.escape(text)}</pre></details>"


def _confusion(verdict: Verdict) -> str:
    """Count which class was taken for which."""
    num = int(max(verdict.labels.max(), verdict.chosen.max())) + 1
    counts = np.zeros((num, num), dtype=np.int64)
    np.add.at(counts, (verdict.labels, verdict.chosen), 1)
    head = "".join(f"<th>{c}</th>" for c in range(num))
    lines = []
    for label in range(num):
        total = max(int(counts[label].sum()), 1)
        cells = "".join(
            f"<td{_shade(n / total, is_right=label == c)}>{n or ''}</td>"
            for c, n in enumerate(counts[label].tolist())
        )
        lines.append(f"<tr><th>{label}</th>{cells}</tr>")
    return (
        f"<table class=matrix><tr><th></th>{head}</tr>{''.join(lines)}</table>"
        "<p class=facts>A row per true class, a column per chosen one.</p>"
    )


def _shade(share: float, *, is_right: bool) -> str:
    if not share:
        return ""
    # One mistake among many shall be seen.
    strength = 0.15 + 0.6 * (share if is_right else share**0.5)
    color = "good" if is_right else "bad"
    return f' style="background: rgba(var(--{color}), {strength:.2f})"'


def _mistakes(page: Page) -> str:
    """Draw the test pictures that were taken for something else."""
    if page.pictures is None:
        return ""
    wrong = np.flatnonzero(page.verdict.chosen != page.verdict.labels)
    figures = "".join(
        f"<figure>{draw_picture(page.pictures[i])}<figcaption>{page.verdict.labels[i]} "
        f"taken for {page.verdict.chosen[i]}</figcaption></figure>"
        for i in wrong[:_MAX_PICTURES].tolist()
    )
    heading = "The only mistake" if len(wrong) == 1 else f"The {len(wrong)} mistakes"
    rest = len(wrong) - _MAX_PICTURES
    more = f"<p class=facts>and {rest} more</p>" if rest > 0 else ""
    return f"<h2>{heading}</h2>{figures}{more}" if len(wrong) else ""


def _environment(page: Page) -> str:
    facts = {**page.environment, "weights_hash": page.result.weights_hash}
    rows = "".join(
        f"<tr><th>{html.escape(name.replace('_', ' '))}</th>"
        f"<td>{html.escape(_in_words(value))}</td></tr>"
        for name, value in facts.items()
        if value is not None
    )
    return f"<table class=env>{rows}</table>"


def _in_words(value: object) -> str:
    """Write a JSON value without brackets; equal neighbours of a list once."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_in_words(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return " ".join(dict.fromkeys(_in_words(inner) for inner in value))
    return str(value)
