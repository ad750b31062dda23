"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner: the arithmetic.

Works on whole matrices only, as Muon: a product of another shape has other bits.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from parallel_params.optim.rule import Shape, Slots, state_dtype
from parallel_params.plan.spec import Structure
from parallel_params.tensor.tape import Array

MAX_RATIO = 16
"""How many times as long as the other a side may be, to have a basis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SoapRule:
    """SOAP, with a basis for both sides of a matrix.

    Of gradients G, [rows, columns], L averages G G^T and R averages G^T G, with
    `shampoo_beta`; Q and P are their eigenbases, at first from `eigh`, then every
    `frequency` steps by one QR of L Q and R P, after the weight has moved. m averages
    G; v averages the squares of Q^T G P. Then
    u = Q (Q^T m_hat P / (sqrt(v_hat) + eps)) P^T and
    weight = weight * (1 - learning_rate * weight_decay) - learning_rate * u.

    The first gradient makes the first bases and moves nothing, as in the authors'
    code: it has no part in most axes of the longer side, and rounding in place of it
    would be divided by its own size.

    A side stays as it is, as if its basis were the identity, if it is longer than
    `max_side` or than `MAX_RATIO` times the other, or, with `is_one_sided`, if it is
    the longer one (of a square matrix the right one).

    State has the parameter's shape, so L and Q, [a, a], lie one after the other in as
    many slots as they fill: one, of the shorter side, and a / b, rounded up, of one
    that is a / b times as long as the other. `gram_left`, `gram_left_1`, ... are L.

    Source: Vyas et al., SOAP (2024), algorithm 3 and its one-sided variant; Gupta,
    Koren and Singer, Shampoo (2018), for L and R.
    """

    structure: ClassVar[Structure] = "matrix"
    slots: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq")

    beta1: float = 0.95
    beta2: float = 0.95
    eps: float = 1e-8
    shampoo_beta: float = 0.95
    frequency: int = 10
    max_side: int = 4096
    is_one_sided: bool = False

    def slots_of(self, shape: Shape) -> Slots:
        """Return both averages, and those of the sides that have a basis."""
        squares = [name for side in self._sides(shape) for name in side.names]
        return Slots(element=(*self.slots, *squares))

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
        """Move `weight` and its state, [rows, columns], by one step."""
        if not weight.size:
            return
        dtype = state_dtype(weight.dtype)
        # In C order, whatever that of the gradient: the order of sums depends on it.
        matrix = gradient.astype(dtype, order="C") * np.array(gradient_scale, dtype)
        sides = self._sides(weight.shape)
        if step == 1:
            for side in sides:
                side.begin(matrix, state)
            return
        count = step - 1  # of those that move
        bases = {side.name: side.load("basis", state) for side in sides}
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        _average(mean, matrix, self.beta1)
        turned = _turned(matrix, bases)
        _average(square, turned * turned, self.beta2)
        root = math.sqrt(1 - self.beta2**count)
        along = _turned(mean, bases)
        along /= np.sqrt(square) + np.array(self.eps * root, dtype)
        along = _turned(along, {name: basis.T for name, basis in bases.items()})
        along *= np.array(learning_rate * root / (1 - self.beta1**count), dtype)
        moved = weight.astype(dtype) * np.array(1 - learning_rate * weight_decay, dtype)
        moved -= along
        weight[...] = moved.astype(weight.dtype)
        for side in sides:
            is_due = count % self.frequency == 0
            side.learn(matrix, state, self.shampoo_beta, is_due)

    def _sides(self, shape: Shape) -> tuple["_Side", ...]:
        if len(shape) != 2 or 0 in shape:
            return ()
        rows, columns = shape
        both = [_Side("left", rows, columns), _Side("right", columns, rows)]
        if self.is_one_sided:
            both = [min(both, key=lambda side: side.length)]
        return tuple(
            side
            for side in both
            if side.length <= min(self.max_side, MAX_RATIO * side.other)
        )


@dataclass(frozen=True, slots=True)
class _Side:
    """One side of a matrix, and where its [length, length] average and basis lie."""

    name: str
    length: int
    other: int

    @property
    def names(self) -> tuple[str, ...]:
        """Its slots."""
        return (*self._names("gram"), *self._names("basis"))

    def _names(self, what: str) -> list[str]:
        first, count = f"{what}_{self.name}", -(-self.length // self.other)
        return [first, *(f"{first}_{number}" for number in range(1, count))]

    def load(self, what: str, state: Mapping[str, Array]) -> Array:
        """Return a copy, [length, length]."""
        flat = np.concatenate([state[slot].reshape(-1) for slot in self._names(what)])
        numel = self.length * self.length
        square: Array = flat[:numel].reshape(self.length, self.length)
        return square

    def begin(self, matrix: Array, state: Mapping[str, Array]) -> None:
        """Set the average to the first gradient's product, the basis to its vectors."""
        gram = self._product(matrix)
        self._store("gram", gram, state)
        # LAPACK would raise, on the owner alone. Weights that are no numbers show.
        is_finite = bool(np.isfinite(gram).all())
        basis = np.linalg.eigh(gram)[1][:, ::-1] if is_finite else gram * np.nan
        self._store("basis", basis, state)

    def learn(
        self, matrix: Array, state: Mapping[str, Array], beta: float, is_due: bool
    ) -> None:
        """Move the average and, when it is due, the basis; v stays with its axes."""
        gram = self.load("gram", state)
        _average(gram, self._product(matrix), beta)
        self._store("gram", gram, state)
        if is_due:
            basis = np.linalg.qr(gram @ self.load("basis", state))[0]
            self._store("basis", basis, state)

    def _product(self, matrix: Array) -> Array:
        matrix = matrix if self.name == "left" else matrix.T
        product: Array = np.matmul(matrix, matrix.T)
        return product

    def _store(self, what: str, square: Array, state: Mapping[str, Array]) -> None:
        flat, start = square.reshape(-1), 0
        for slot in self._names(what):
            part = flat[start : start + self.length * self.other]
            state[slot].reshape(-1)[: part.size] = part
            start += part.size


def _turned(matrix: Array, bases: Mapping[str, Array]) -> Array:
    """Return left^T matrix right; a copy where neither has a basis."""
    left, right = bases.get("left"), bases.get("right")
    turned: Array = matrix.copy() if left is None else left.T @ matrix
    return turned if right is None else np.matmul(turned, right)


def _average(average: Array, values: Array, beta: float) -> None:
    keep, share = (np.array(x, average.dtype) for x in (beta, 1 - beta))
    average *= keep
    average += values * share
