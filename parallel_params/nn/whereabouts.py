"""Which operator and which cell are being run: what an error says of its place."""

import sys
from pathlib import Path
from types import FrameType

from parallel_params.nn.queries import Queries

_PACKAGE = Path(__file__).parent.parent
_OPERATORS = str(_PACKAGE / "tensor" / "ops")
_ADDED = "_cell_path"  # attribute of an error whose text names the cell already


def find_place(frame: FrameType | None) -> tuple[str, str]:
    """Return the operator and the path of the cell that are being run.

    Args:
        frame: where to look from, outwards.

    Returns:
        "an operator" if none is found, "" outside of cells.
    """
    operator = "an operator"
    is_inside = True
    cells: list[Queries] = []
    while frame is not None:
        code = frame.f_code
        if is_inside and code.co_filename.startswith(_OPERATORS):
            operator = code.co_name
        elif operator != "an operator":
            is_inside = False  # what is further out called the operator
        cell = frame.f_locals.get("self") if code.co_name == "__call__" else None
        if isinstance(cell, Queries):
            cells.append(cell)
        frame = frame.f_back
    return operator, _path(cells)


def _path(cells: list[Queries]) -> str:
    """Return how the innermost cell, the first, is found from the outermost."""
    if not cells:
        return ""
    for path, cell in cells[-1].cells_and_names():
        if cell is cells[0]:
            kind = type(cell).__name__
            return f"{path!r} ({kind})" if path else kind
    return type(cells[0]).__name__


def add_cell_path(error: Exception) -> None:
    """Add to an error of this library in which cell it was raised.

    Called where a cell catches it, the innermost first; the rest find it done. What a
    user's own `construct` raises keeps its text.
    """
    if hasattr(error, _ADDED):
        return
    setattr(error, _ADDED, True)
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or len(error.args) != 1 or not isinstance(error.args[0], str):
        return
    if not trace.tb_frame.f_code.co_filename.startswith(str(_PACKAGE)):
        return
    _, path = find_place(sys._getframe(1))
    error.args = (f"{error.args[0]} (in cell {path})",)
