"""What a layer keeps packed in one parameter and its cut twin has apart.

A whole layer puts matrices below each other, for one product; cut along an axis each is
a parameter of its own. Both kinds of cells say so in `Cell.packings`, in names of their
own, and what was saved of one can be loaded into the other.
"""

from typing import NamedTuple


class Packing(NamedTuple):
    """One parameter of a whole layer and those of the cut one that it is made of.

    Attributes:
        packed: its name in the whole layer.
        parts: theirs in the cut one, below each other along dim 0; one for another
            name of the same.
    """

    packed: str
    parts: tuple[str, ...]


def _both(packed: str, *parts: str) -> tuple[Packing, ...]:
    return tuple(
        Packing(packed + end, tuple(f"{part}.{end}" for part in parts))
        for end in ("weight", "bias")
    )


ATTENTION = (
    *_both("in_proj_", "query", "key", "value"),
    *_both("out_proj.", "out"),
)
"""Of `nn.MultiheadAttention` and `parallel.HeadParallelAttention`."""

GATED = _both("up.", "gate", "up")
"""Of `nn.SwiGLU` and a gated `parallel.ParallelFeedForward`."""
