"""What a law is tried on: drawn from a seed, so that a case can be drawn again."""

import copy
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from parallel_params.optim.alone import move_whole, state_shape
from parallel_params.optim.kinds import is_plain_rule, is_round_rule, slots_of
from parallel_params.optim.rule import AnyRule, Shape, state_dtype
from parallel_params.tensor.dtype import dtype_named
from parallel_params.tensor.tape import Array

MATRICES: tuple[Shape, ...] = ((1, 1), (3, 5), (5, 3), (4, 4), (1, 6), (6, 1), (0, 3))
SHAPES: tuple[Shape, ...] = (
    *MATRICES,
    *((), (0,), (1,), (7,), (3, 0), (2, 3, 4)),
    (37, 101),  # several leaves of any kind, ragged
)
State = dict[str, Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """The settings of one step that are no arrays."""

    learning_rate: float
    weight_decay: float
    gradient_scale: float = 1.0

    def __str__(self) -> str:
        return (
            f"learning_rate {self.learning_rate:g}, weight_decay "
            f"{self.weight_decay:g}, gradient_scale {self.gradient_scale:g}"
        )


class Case:
    """One parameter and a few gradients, of one seed.

    Args:
        rule: what is tried.
        law: its name, part of the seed.
        seed: of the whole check.
        number: of the case.
        shapes: to choose from.

    Attributes:
        rng: to draw more from.
        shape: of the parameter.
        dtype: of weight and gradients.
        numbers: of every step.
        notes: what else was drawn, for the report.
    """

    def __init__(
        self, rule: AnyRule, law: str, seed: int, number: int, shapes: Sequence[Shape]
    ) -> None:
        self.rng = np.random.default_rng([seed, zlib.crc32(law.encode()), number])
        self.rule = rule
        self.shapes = tuple(shapes)
        # Every shape has its turn before one comes again.
        self.shape = self.shapes[number % len(self.shapes)]
        self.dtype = np.dtype(self.rng.choice(["float32", "float64"]))
        self.numbers = Numbers(
            learning_rate=float(self.rng.choice([0.5, 0.01])),
            weight_decay=float(self.rng.choice([0.0, 0.1])),
            gradient_scale=float(self.rng.choice([1.0, 0.25])),
        )
        self.notes: list[str] = []

    def __str__(self) -> str:
        shown = f"shape {self.shape}, {self.dtype}, {self.numbers}"
        return ", ".join([shown, *self.notes])

    def weight(self) -> Array:
        """Draw a weight."""
        return self.draw(self.shape)

    def gradient(self) -> Array:
        """Draw a gradient; some elements are 0."""
        values = self.draw(self.shape)
        values *= self.rng.random(self.shape) < 0.8
        return values

    def draw(self, shape: Shape) -> Array:
        """Draw normal numbers of the case's type."""
        return np.asarray(self.rng.normal(size=shape)).astype(self.dtype)

    def state(self, dtype: "np.dtype[np.generic] | None" = None) -> State:
        """Return the state before the first step."""
        slots = slots_of(self.rule, self.shape)
        wide = state_dtype(self.dtype if dtype is None else dtype)
        return {
            slot: np.zeros(state_shape(slots, slot, self.shape), wide)
            for slot in slots.names
        }

    def move(
        self,
        weight: Array,
        gradient: Array,
        state: Mapping[str, Array],
        *,
        step: int,
        numbers: Numbers | None = None,
        rule: AnyRule | None = None,
    ) -> None:
        """Move a whole parameter by one step, in place."""
        used = self.numbers if numbers is None else numbers
        with np.errstate(all="ignore"):
            move_whole(
                rule or self.rule,
                weight,
                gradient,
                state,
                step=step,
                learning_rate=used.learning_rate,
                weight_decay=used.weight_decay,
                gradient_scale=used.gradient_scale,
            )


def shapes_for(rule: AnyRule) -> tuple[Shape, ...]:
    """Return the shapes that a rule of this structure is tried on."""
    return MATRICES if rule.structure == "matrix" else SHAPES


def copy_of(state: Mapping[str, Array]) -> State:
    """Return the state as a checkpoint would give it back."""
    return {slot: values.copy() for slot, values in state.items()}


def reborn(rule: AnyRule) -> AnyRule:
    """Return a copy of the rule, as another rank or process would make it."""
    return copy.deepcopy(rule)


def low_precision() -> tuple["np.dtype[np.generic]", ...]:
    """Return the types of weights that rules do not compute in."""
    return dtype_named("float16").numpy, dtype_named("bfloat16").numpy


def is_rule(rule: object) -> bool:
    """Whether it has what a rule of either kind has."""
    return (is_plain_rule(rule) or is_round_rule(rule)) and hasattr(rule, "structure")


def difference(
    what: str, got: Array, want: Array, *, tolerance: float = 0.0
) -> str | None:
    """Say which elements of two arrays differ, or None if none does.

    Args:
        what: the name of the array.
        got: as it came out.
        want: as it should be.
        tolerance: 0 for the same bits; else allowed, absolute and relative.
    """
    if got.shape != want.shape or got.dtype != want.dtype:
        return f"{what} is {got.dtype} {got.shape}, expected {want.dtype} {want.shape}"
    if got.tobytes() == want.tobytes():
        return None
    left, right = (values.astype(np.float64).reshape(-1) for values in (got, want))
    with np.errstate(invalid="ignore"):
        far = ~(np.abs(left - right) <= tolerance * (1 + np.abs(right)))
    far &= ~(np.isnan(left) & np.isnan(right))
    if not far.any():
        return None
    first = int(np.argmax(far))
    place = [int(i) for i in np.unravel_index(first, got.shape)] if got.shape else []
    return (
        f"{what} differs in {int(far.sum())} of {got.size} elements; the first is "
        f"{what}{place}: {left[first]!r}, expected {right[first]!r}"
    )


def state_difference(
    got: Mapping[str, Array], want: Mapping[str, Array], *, tolerance: float = 0.0
) -> str | None:
    """Say which elements of two states differ first, or None if none does."""
    for slot, values in want.items():
        found = difference(f"state {slot!r}", got[slot], values, tolerance=tolerance)
        if found:
            return found
    return None
