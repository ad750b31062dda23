"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner: the arithmetic.

Works on whole matrices only, as Muon: a product of another shape has other bits.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from parallel_params.optim.rule import state_dtype
from parallel_params.plan.spec import Structure
from parallel_params.tensor.tape import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class SoapRule:
    """SOAP, one-sided: with the basis of the shorter side, of k elements.

    For a wide gradient G (a tall one is turned), L averages G G^T with `shampoo_beta`
    and Q is its eigenbasis, at first from `eigh`, then every `frequency` steps by one
    QR of L Q. m averages G; v averages the squares of Q^T G. Then u = Q (Q^T m_hat /
    (sqrt(v_hat) + eps)) and
    weight = weight * (1 - learning_rate * weight_decay) - learning_rate * u. The first
    basis is that of the first gradient, which moves in it already.

    L and Q, [k, k], lie in the first k * k elements of `gram` and `basis`, which are as
    long as the parameter: k is the shorter side, so they fit. That is why both sides,
    as in the paper's main algorithm, are not there: k * k of the longer does not fit.

    Source: Vyas et al., SOAP (2024), algorithm 3 and its one-sided variant; Gupta,
    Koren and Singer, Shampoo (2018), for L.
    """

    structure: ClassVar[Structure] = "matrix"
    slots: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq", "gram", "basis")

    beta1: float = 0.95
    beta2: float = 0.95
    eps: float = 1e-8
    shampoo_beta: float = 0.95
    frequency: int = 10

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
        is_tall = weight.shape[0] > weight.shape[1]
        side = min(weight.shape)
        gram, basis = (
            state[slot].reshape(-1)[: side * side].reshape(side, side)
            for slot in ("gram", "basis")
        )
        # In C order, whatever that of the gradient: the order of sums depends on it.
        wide = _wide(gradient.astype(dtype) * np.array(gradient_scale, dtype), is_tall)
        self._turn(gram, basis, wide, step)
        turned = basis.T @ wide
        mean, square = state["exp_avg"], state["exp_avg_sq"].reshape(wide.shape)
        _average(mean, wide.T if is_tall else wide, self.beta1)
        _average(square, np.multiply(turned, turned, turned), self.beta2)
        root = math.sqrt(1 - self.beta2**step)
        pull = learning_rate * root / (1 - self.beta1**step)
        along = basis.T @ _wide(mean, is_tall)
        along /= np.sqrt(square) + np.array(self.eps * root, dtype)
        along = basis @ along
        along *= np.array(pull, dtype)
        moved = weight.astype(dtype) * np.array(1 - learning_rate * weight_decay, dtype)
        moved -= along.T if is_tall else along
        weight[...] = moved.astype(weight.dtype)

    def _turn(self, gram: Array, basis: Array, wide: Array, step: int) -> None:
        """Move L and, when it is due, Q; v stays with the axes as they are numbered."""
        product = wide @ wide.T
        if step > 1:
            _average(gram, product, self.shampoo_beta)
            if step % self.frequency == 0:
                basis[...] = np.linalg.qr(gram @ basis)[0]
            return
        gram[...] = product
        # LAPACK would raise, on the owner alone. Weights that are no numbers show.
        is_finite = bool(np.isfinite(gram).all())
        basis[...] = np.linalg.eigh(gram)[1][:, ::-1] if is_finite else np.nan


def _average(average: Array, values: Array, beta: float) -> None:
    keep, share = (np.array(x, average.dtype) for x in (beta, 1 - beta))
    average *= keep
    average += values * share


def _wide(matrix: Array, is_tall: bool) -> Array:
    return np.ascontiguousarray(matrix.T if is_tall else matrix)
