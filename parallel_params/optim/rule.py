"""What an optimizer rule is: one step of arithmetic on a flat slice.

A rule knows neither parameters nor ranks. It gets a slice of the weights, the same
slice of the gradients and of its own state arrays, and updates them in place. Settings
that the parameters of one group share (learning rate, weight decay) and the step are
arguments.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from parallel_params.plan.spec import Structure
from parallel_params.tensor.tape import Array

ELEMENT: Structure = "element"  # of rules that may be cut anywhere
_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


class Rule(Protocol):
    """One step of an optimizer, in place, on a flat slice of an arena.

    Rules are frozen and hold no arrays, so they compare, hash and print by their
    settings, and ranks or threads may share one.
    """

    @property
    def structure(self) -> Structure:
        """Where a parameter may be cut.

        `element`: anywhere, and the bits of the result do not depend on where.
        """
        ...

    @property
    def slots(self) -> tuple[str, ...]:
        """The names of the state arrays that the rule needs with these settings."""
        ...

    def update(
        self,
        weight: Array,
        gradient: Array,
        state: Mapping[str, Array],
        *,
        step: int,
        learning_rate: float,
        weight_decay: float,
        gradient_scale: float = 1.0,
    ) -> None:
        """Move `weight` and `state` by one step.

        Args:
            weight: [n] of a floating-point type; float16 and bfloat16 are computed in
                float32. Written.
            gradient: [n] of any floating-point type. Only read.
            state: one [n] array of `state_dtype(weight.dtype)` per slot, zeros before
                the first step. Written.
            step: 1 for the first step of this state.
            learning_rate: of this step.
            weight_decay: 0 for none.
            gradient_scale: the gradient meant is `gradient_scale * gradient`. A mean, a
                loss scale or a clipping factor put here saves a pass over the slice.
        """
        ...


def state_dtype(weight_dtype: np.dtype[np.generic]) -> np.dtype[np.generic]:
    """Return the element type in which a rule computes, and keeps its state.

    float64 for float64, else float32: squares of gradients underflow in float16, and
    an average that moves by a thousandth does not move in bfloat16.
    """
    return _FLOAT64 if weight_dtype == _FLOAT64 else _FLOAT32
