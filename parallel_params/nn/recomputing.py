"""Calling a cell so that its activations are dropped and made again in backward.

How that is done is in `tensor/recompute.py`. What the cell's statistics observe counts
once, in forward.
"""

from collections.abc import Callable
from typing import Any

from parallel_params.nn.statistic import collecting
from parallel_params.tensor.recompute import recomputed


def call_recomputed(
    construct: Callable[..., Any], inputs: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    """Return what `construct` returns, keeping its inputs and nothing else."""

    def again() -> object:
        with collecting():
            return construct(*inputs, **options)

    return recomputed(lambda: construct(*inputs, **options), again)
