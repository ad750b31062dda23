"""What there is to see of a task: confusion, mistakes, scatter, samples of text.

Each function gives a title and HTML below it; colors are the page's classes.
"""

import html
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from parallel_params.train.charts import draw_picture, draw_scatter

Part: TypeAlias = tuple[str, str]

_MAX_PICTURES = 48
# A table of more classes is no picture any more.
_MAX_CLASSES = 30


def confusion(chosen: NDArray[np.int64], labels: NDArray[np.int64]) -> Part:
    """Count which class was taken for which."""
    num = int(max(labels.max(), chosen.max())) + 1
    title = "What was taken for what"
    if num > _MAX_CLASSES:
        return title, f"<p class=facts>{num} classes are too many for a table.</p>"
    counts = np.zeros((num, num), dtype=np.int64)
    np.add.at(counts, (labels, chosen), 1)
    head = "".join(f"<th>{c}</th>" for c in range(num))
    lines = []
    for label in range(num):
        total = max(int(counts[label].sum()), 1)
        cells = "".join(
            f"<td{_shade(n / total, is_right=label == c)}>{n or ''}</td>"
            for c, n in enumerate(counts[label].tolist())
        )
        lines.append(f"<tr><th>{label}</th>{cells}</tr>")
    return title, (
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


def mistakes(
    pictures: NDArray[np.float32],
    chosen: NDArray[np.int64],
    labels: NDArray[np.int64],
) -> Part:
    """Draw the test pictures that were taken for something else."""
    wrong = np.flatnonzero(chosen != labels)
    figures = "".join(
        f"<figure>{draw_picture(pictures[i])}<figcaption>{labels[i]} "
        f"taken for {chosen[i]}</figcaption></figure>"
        for i in wrong[:_MAX_PICTURES].tolist()
    )
    heading = "The only mistake" if len(wrong) == 1 else f"The {len(wrong)} mistakes"
    rest = len(wrong) - _MAX_PICTURES
    more = f"<p class=facts>and {rest} more</p>" if rest > 0 else ""
    return heading, f"{figures}{more}" if len(wrong) else ""


def scatter(said: NDArray[np.float64], targets: NDArray[np.float64]) -> Part:
    """Draw what was said over what is; on the line both are the same."""
    return "What was said, over what is", (
        f'<div class="half">{draw_scatter(targets, said)}</div>'
        "<p class=facts>A dot per test sample, both in the deviations that the model "
        "learns; on the line both are the same.</p>"
    )


def speeches(samples: Sequence[tuple[int, str]]) -> Part:
    """Show what a language model said at its looks, the last first.

    Args:
        samples: step, and the prompt and the text with a bar between them.
    """
    parts = []
    for step, text in reversed(samples):
        prompt, _, said = text.partition("|")
        parts.append(
            f"<h3>step {step}</h3><pre class=speech><span>{html.escape(prompt)}</span>"
            f"{html.escape(said)}</pre>"
        )
    last, *others = parts
    earlier = "".join(others)
    folded = (
        f"<details><summary>earlier looks</summary>{earlier}</details>"
        if others
        else ""
    )
    return "What it says by itself", (
        "<p class=facts>The grey beginning is from the text that was held out; the "
        f"rest was drawn from the model, character by character.</p>{last}{folded}"
    )
