"""What rank 0 says while a job runs: whole lines, and a bar where a terminal is.

The other ranks have a console too, one that says nothing; so nobody asks for a rank.
Lines go to a stream in one write each; there are no carriage returns in a file.
"""

import dataclasses
import math
import textwrap
from collections.abc import Mapping
from typing import Literal, Protocol, TextIO, TypeAlias

from parallel_params.train.labels import label_of

Style: TypeAlias = Literal["auto", "bar", "plain", "off"]

LINE_WIDTH = 79


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """Where a run speaks.

    Attributes:
        stream: takes the lines.
        width: of the terminal behind it in characters, 0 if there is none. MPI hides
            terminals from ranks or feigns them, so only the launcher can know.
        is_quiet: say nothing.
        has_color: whether the bar may have colors.
    """

    stream: TextIO
    width: int = 0
    is_quiet: bool = False
    has_color: bool = True

    def of_rank(self, rank: int) -> "Console":
        """Give the console of a rank: this one for rank 0, else a mute one."""
        return self if rank == 0 else dataclasses.replace(self, is_quiet=True)

    def say(self, text: str) -> None:
        """Print a line, or several at once."""
        if not self.is_quiet:
            self.stream.write(f"{text}\n")
            self.stream.flush()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What is known after some step.

    Attributes:
        step: steps taken.
        num_steps: steps of the whole run.
        loss: mean over the last batch, before its update.
        lr: learning rate of the last step.
        samples_per_s: of the world, since the row before.
        words: the loss in other units, by name.
        scores: of the test samples, the metric first; none if not looked at.
        sample: what the model says by itself, if it was looked at and speaks.
    """

    step: int
    num_steps: int
    loss: float
    lr: float
    samples_per_s: float
    words: Mapping[str, float] = dataclasses.field(default_factory=dict)
    scores: Mapping[str, float] = dataclasses.field(default_factory=dict)
    sample: str = ""

    @property
    def is_look(self) -> bool:
        """Whether the test samples were looked at."""
        return bool(self.scores)

    @property
    def score(self) -> float:
        """The metric's value; only of a look."""
        return next(iter(self.scores.values()))

    def text(self) -> str:
        """Write the row as one line, of less than 80 characters in most runs."""
        width = len(str(self.num_steps))
        line = (
            f"  step {self.step:>{width}}/{self.num_steps}  loss {self.loss:<7.4f}  "
            f"lr {self.lr:.1e}  {grouped(round(self.samples_per_s)):>7} samples/s"
        )
        if self.is_look:
            line += f"  {label_of(next(iter(self.scores)))} {self.score:.4f}"
        return line

    def speech(self) -> str:
        """Write what the model said as indented lines, or nothing."""
        lines = self.sample.splitlines()
        return "\n".join(
            f"        {part}".rstrip()
            for line in lines
            for part in textwrap.wrap(
                line, LINE_WIDTH - 8, drop_whitespace=False, replace_whitespace=False
            )
            or [""]
        )

    def facts(self) -> dict[str, object]:
        """Give the row as metrics.jsonl has it; a skipped step has no loss."""
        return {
            "step": self.step,
            "loss": self.loss if math.isfinite(self.loss) else None,
            "lr": self.lr,
            "samples_per_s": self.samples_per_s,
            **self.words,
            **{f"test_{name}": value for name, value in self.scores.items()},
        }


class Progress(Protocol):
    """Shows how far a run is."""

    def advance(self, step: int) -> None:
        """Take note that `step` steps are done; cheap enough for every step."""
        ...

    def show(self, row: Row) -> None:
        """Show a row."""
        ...

    def close(self) -> None:
        """End the display, leaving the cursor on a line of its own."""
        ...


class PlainProgress:
    """One line per row."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def advance(self, step: int) -> None:
        """Show nothing between rows."""

    def show(self, row: Row) -> None:
        """Print the row, and what the model says by itself."""
        self._console.say("\n".join(filter(None, (row.text(), row.speech()))))

    def close(self) -> None:
        """Leave things as they are."""


def make_progress(console: Console, style: Style, *, num_steps: int) -> Progress:
    """Make the display of a style; `auto` is a bar on a terminal, else plain lines."""
    wants_bar = style == "bar" or (style == "auto" and console.width > 0)
    if console.is_quiet or style == "off":
        return PlainProgress(dataclasses.replace(console, is_quiet=True))
    if not wants_bar:
        return PlainProgress(console)
    from parallel_params.train.bar import BarProgress

    return BarProgress(console, num_steps=num_steps)


def grouped(number: int) -> str:
    """Write a whole number with thin groups of three digits: 26 122."""
    return f"{number:,}".replace(",", " ")


def folded(text: str, *, hang: int) -> str:
    """Fold sentences that are wider than a terminal; rows of a table stay as they are.

    Args:
        text: lines; a row is known by two blanks in a row inside of it.
        hang: blanks before what a line is continued with, beside its own indentation.
    """
    lines = []
    for line in text.splitlines():
        body = line.lstrip()
        if len(line) > LINE_WIDTH and "  " not in body[hang:]:
            indent = " " * (len(line) - len(body) + hang)
            line = textwrap.fill(
                line,
                LINE_WIDTH,
                subsequent_indent=indent,
                break_long_words=False,
                break_on_hyphens=False,
            )
        lines.append(line)
    return "\n".join(lines)
