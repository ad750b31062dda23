"""The live bar of a terminal, by rich; imported only when there is one to draw on."""

import time
from collections.abc import Callable

import rich.console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.progress import TimeRemainingColumn as Remaining

from parallel_params.train.console import Console, Row, grouped

_DEFAULT_WIDTH = 80
# Ten times a second looks smooth and costs nothing beside the steps.
_INTERVAL_S = 0.1


class BarProgress:
    """A bar at the bottom; looks at the test samples stay above it as lines."""

    def __init__(
        self,
        console: Console,
        *,
        num_steps: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        screen = rich.console.Console(
            file=console.stream,
            force_terminal=True,
            width=console.width or _DEFAULT_WIDTH,
            no_color=not console.has_color,
            highlight=False,
        )
        self._bar = Progress(
            TextColumn("  step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[facts]}"),
            Remaining(compact=True),
            console=screen,
            # No thread draws: it would take turns with the arithmetic.
            auto_refresh=False,
            transient=True,
        )
        self._task = self._bar.add_task("", total=num_steps, facts="")
        self._clock = clock
        self._drawn_at = clock()
        self._bar.start()
        # rich hides it, and a world that is ended could not show it again.
        screen.show_cursor(True)

    def advance(self, step: int) -> None:
        """Move the bar, ten times a second at most."""
        now = self._clock()
        if now - self._drawn_at >= _INTERVAL_S:
            self._drawn_at = now
            self._bar.update(self._task, completed=step, refresh=True)

    def show(self, row: Row) -> None:
        """Put the row beside the bar; a look at the test samples becomes a line."""
        facts = f"loss {row.loss:.4f}  {grouped(round(row.samples_per_s))} samples/s"
        self._bar.update(self._task, completed=row.step, facts=facts, refresh=True)
        if row.is_look:
            said = "\n".join(filter(None, (row.text(), row.speech())))
            self._bar.console.print(said, markup=False)

    def close(self) -> None:
        """Take the bar away."""
        self._bar.stop()
