"""One page about a run that a browser shows without network or script.

What it shows is collected by the journal and drawn by `charts`.
"""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from parallel_params.plan.plan import Plan
from parallel_params.train.charts import draw_curve, draw_holdings
from parallel_params.train.console import Row, grouped
from parallel_params.train.exhibits import speeches
from parallel_params.train.result import TrainResult
from parallel_params.train.tasks.task import Baseline, Evaluation, Metric

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
tr.own th, tr.own td { color: var(--ink); font-weight: 650; }
pre.speech { white-space: pre-wrap; } pre.speech span { color: var(--soft); }
.half { max-width: 30rem; } .same { stroke: var(--soft); stroke-dasharray: 4 4; }
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
        losses: what they are called, and of every step.
        first_step: the number of the first of them.
        rows: what was noted along the run.
        metric: what runs of this task are compared by.
        evaluation: of the final weights.
        baselines: what simple methods reach on the same samples.
        plan: what was executed.
        traffic: what is sharded where and what was sent, as text.
        environment: of `describe_environment`.
        job: the resolved job, as text.
    """

    title: str
    facts: Sequence[str]
    result: TrainResult
    losses: tuple[str, Sequence[float]]
    first_step: int
    rows: Sequence[Row]
    metric: Metric
    evaluation: Evaluation
    baselines: Sequence[Baseline]
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
        _baselines(page),
        _exhibits(page),
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
    result = page.result
    tiles = [
        (
            f"{result.test_score:.4f}",
            f"test {page.metric.label} ({page.evaluation.summary})",
        ),
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
    learned, losses = page.losses
    steps = list(enumerate(losses, start=page.first_step))
    looks = [(row.step, row.score) for row in page.rows if row.is_look]
    told = f"test {page.metric.label}"
    parts = (
        (learned, draw_curve(steps, learned)),
        (told, draw_curve(looks, told, has_dots=True)),
    )
    cells = "".join(
        f'<div class="wide"><h2>{name[:1].upper()}{name[1:]}</h2>{curve}</div>'
        for name, curve in parts
    )
    return f'<div class="row">{cells}</div>'


def _baselines(page: Page) -> str:
    """Put the run among simple methods, the best first."""
    if not page.baselines:
        return ""
    metric = page.metric
    rows = [(each.score, each.name, "") for each in page.baselines]
    rows.append((page.result.test_score, "this run", " class=own"))
    rows.sort(key=lambda row: row[0], reverse=metric.is_more_better)
    cells = "".join(
        f"<tr{own}><th>{html.escape(name)}</th><td>{score:.4f}</td></tr>"
        for score, name, own in rows
    )
    order = "more is better" if metric.is_more_better else "less is better"
    return (
        f"<h2>Beside simple methods</h2><table class=env>{cells}</table>"
        f"<p class=facts>Test {metric.label}: {metric.meaning}; {order}. All learned "
        "from the same training samples.</p>"
    )


def _exhibits(page: Page) -> str:
    parts = [(each.title, each.html) for each in page.evaluation.exhibits()]
    if said := [(row.step, row.sample) for row in page.rows if row.sample]:
        parts.append(speeches(said))
    return "".join(f"<h2>{title}</h2>{body}" for title, body in parts)


def _folded_text(name: str, text: str) -> str:
    return f"<details><summary>{name}</summary><pre>{html.escape(text)}</pre></details>"


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
