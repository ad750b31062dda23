"""Signals that ask a rank to save and leave: SIGTERM, SIGUSR1.

The first one is only remembered, and asked for between two steps. Another one does what
it always does: a run that hangs can still be ended.
"""

import signal
from types import FrameType, TracebackType

ASKING = (signal.SIGTERM, signal.SIGUSR1)


class StopSignals:
    """Remembers, while it is open, that a signal has asked to stop; calling it tells.

    Only for the main thread, where Python runs handlers.
    """

    def __init__(self) -> None:
        self._is_asked = False
        self._before: dict[int, object] = {}

    def __call__(self) -> bool:
        """Tell whether a signal has asked to stop."""
        return self._is_asked

    def __enter__(self) -> "StopSignals":
        self._before = {
            number: signal.signal(number, self._remember) for number in ASKING
        }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # as it was given

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        self._is_asked = True
        for each in ASKING:
            signal.signal(each, signal.SIG_DFL)
