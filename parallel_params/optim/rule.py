"""What an optimizer rule is: one step of arithmetic on a flat slice.

A rule knows neither parameters nor ranks. It gets a slice of the weights, the same
slice of the gradients and of its own state arrays, and updates them in place. Settings
that the parameters of one group share (learning rate, weight decay) and the step are
arguments.

There are two kinds. A `Rule` moves what it gets in one call. A `RoundRule` needs to
know something of the whole parameter first: it works in rounds, hands out what its part
contributes and is sent the sum. Who adds and who communicates is not said here.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

from parallel_params.optim.sums import fold_nodes, leaf_sums, square_sums
from parallel_params.plan.spec import Structure
from parallel_params.tensor.tape import Array

ELEMENT: Structure = "element"  # of rules that may be cut anywhere
_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)

Shape: TypeAlias = tuple[int, ...]
Moves: TypeAlias = Generator[Array, Array, None]
"""Yields [own nodes, width] float64, is sent [width] float64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """The names of the state arrays of one parameter, by what they have a number for.

    All are of `state_dtype(weight.dtype)` and zeros before the first step.
    """

    element: tuple[str, ...] = ()
    """[numel]: cut with the weight."""
    row: tuple[str, ...] = ()
    """[rows of dim 0]: cut with the rows."""
    column: tuple[str, ...] = ()
    """[elements of a row]: whole with everyone who moves a part of the parameter, and
    the same there."""

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return self.element + self.row + self.column


class Rule(Protocol):
    """One step of an optimizer, in place, on a flat slice of an arena.

    Rules are frozen and hold no arrays, so they compare, hash and print by their
    settings, and ranks or threads may share one.
    """

    @property
    def structure(self) -> Structure:
        """Where a parameter may be cut.

        `element`: anywhere, and the bits of the result do not depend on where.
        `matrix`: nowhere; weight, gradient and state come in the parameter's shape.
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
                float32. Written. Of structure `matrix`: the parameter's shape, here
                and below.
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


class ShapedRule(Rule, Protocol):
    """A rule that keeps more of some parameters than `slots`, by their shape."""

    def slots_of(self, shape: Shape) -> Slots:
        """Return all of the state of a parameter of this shape."""
        ...


class PairRule(Rule, Protocol):
    """A rule, elementwise, that adds two summands of the gradient in its own loop.

    So the sum of the gradients of a node's ranks passes through no memory.
    """

    def update_pair(
        self,
        weight: Array,
        left: Array,
        right: Array,
        state: Mapping[str, Array],
        *,
        step: int,
        learning_rate: float,
        weight_decay: float,
        gradient_scale: float = 1.0,
    ) -> None:
        """Do what `update` does with left + right, [n] of one type and only read."""
        ...


@dataclass(slots=True, kw_only=True)
class Part:
    """Whole leaves of one parameter, consecutive, with all that moves them.

    A *leaf* is what sums over the parameter start from: a stretch of elements for
    structure `tensor_scalar`, a row for `row`. Where leaves lie does not depend on who
    has which, so sums over leaves, added in a fixed order, do not either.
    """

    weight: Array
    """[n] of a floating-point type. Written."""
    gradient: Array
    """[n] of any floating-point type. Scratch: the rule may leave anything in it."""
    state: Mapping[str, Array]
    """[n] per element slot, [own rows] per row slot, [elements of a row] per column
    slot. Written; a column slot gets the same numbers from every part."""
    shape: Shape
    """Of the whole parameter."""
    edges: Array
    """[own leaves + 1] int64, ascending from 0 to n: leaf i is
    `edges[i]:edges[i + 1]` of the arrays."""
    nodes: Sequence[range] | None = None
    """Own leaves, in order, that are added up before they are handed out: each range a
    subtree of the parameter's tree. None to hand out every leaf."""
    is_adapted: bool = True
    """`Settings.is_adapted` of the parameter."""

    @property
    def num_leaves(self) -> int:
        """How many leaves these are; may be 0."""
        return len(self.edges) - 1

    def scratch_gradient(self) -> Array:
        """Return the gradient in the type to compute in, to be overwritten."""
        return self.gradient.astype(state_dtype(self.weight.dtype), copy=False)

    def leaf_sums(self, values: Array) -> Array:
        """Return [own leaves] float64: the sum of `values` [n] over each leaf."""
        return leaf_sums(values, self.edges)

    def square_sums(self, values: Array) -> Array:
        """Return [own leaves] float64: the sum of squares of `values` [n] by leaf."""
        return square_sums(values, self.edges)

    def fold(self, leaves: Array) -> Array:
        """Return [own nodes, width]: `leaves` [own leaves, width] added up to nodes."""
        if self.nodes is None:
            return leaves
        return self.fold_blocks(lambda rows: leaves[rows].copy(), leaves.shape[1])

    def fold_blocks(self, leaves_of: Callable[[slice], Array], width: int) -> Array:
        """Return [own nodes, width], from leaves that are made a few at a time.

        Args:
            leaves_of: see `fold_nodes`; called once for every own leaf, in order.
            width: how many numbers a leaf contributes.
        """
        return fold_nodes(self.nodes, self.num_leaves, leaves_of, width)


class RoundRule(Protocol):
    """One step of an optimizer that needs sums over whole parameters.

    Frozen and without arrays, as a `Rule`.
    """

    @property
    def structure(self) -> Structure:
        """Where a parameter may be cut: `tensor_scalar` anywhere, `row` between rows.

        Where it is cut, and among how many, changes no bit of the result.
        """
        ...

    @property
    def num_rounds(self) -> int:
        """How often something is summed over a parameter; the same for all of them."""
        ...

    def slots_of(self, shape: Shape) -> Slots:
        """Return the state of a parameter of this shape."""
        ...

    def round_widths(self, shape: Shape) -> tuple[int, ...]:
        """Return how many numbers each round sums over a parameter of this shape."""
        ...

    def moves(
        self,
        part: Part,
        *,
        step: int,
        learning_rate: float,
        weight_decay: float,
        gradient_scale: float = 1.0,
    ) -> Moves:
        """Move `part` by one step, in `num_rounds` rounds.

        Yields what this part contributes, [own nodes, width] float64, and is sent the
        sum over all leaves of the parameter, [width] float64, added in one order
        whoever has them. When the generator has ended, weight and state have
        moved. A part without leaves takes part in all rounds; its column state moves.

        Args:
            part: own leaves of one parameter.
            step: 1 for the first step of this state.
            learning_rate: of this step.
            weight_decay: 0 for none.
            gradient_scale: the gradient meant is `gradient_scale * gradient`.
        """
        ...


class EvaluatedRule(Protocol):
    """What a rule of either kind has, if its weights are not those to evaluate with."""

    def evaluation(self, weight: Array, state: Mapping[str, Array]) -> Array:
        """Return the weights to evaluate with; change nothing.

        Args:
            weight: a part as `update` or `moves` gets it.
            state: of that part.

        Returns:
            An array of the shape of `weight`, of any floating-point type; a view of
            the state will do.
        """
        ...


AnyRule: TypeAlias = Rule | RoundRule


def state_dtype(weight_dtype: np.dtype[np.generic]) -> np.dtype[np.generic]:
    """Return the element type in which a rule computes, and keeps its state.

    float64 for float64, else float32: squares of gradients underflow in float16, and
    an average that moves by a thousandth does not move in bfloat16.
    """
    return _FLOAT64 if weight_dtype == _FLOAT64 else _FLOAT32
