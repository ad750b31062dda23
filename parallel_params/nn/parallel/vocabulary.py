"""An embedding and a cross-entropy whose vocabulary, or classes, are cut along an axis.

No rank ever has all rows of the table or all logits of a sample.
"""

import numpy as np

from parallel_params.nn.parallel.axis import Axis
from parallel_params.nn.parallel.cell import AxisCell
from parallel_params.nn.parallel.passing import leave
from parallel_params.tensor.dtype import DType, float32
from parallel_params.tensor.initializer import Init
from parallel_params.tensor.ops.apply import Operand, as_operand, result
from parallel_params.tensor.ops.indexing import gather
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor


class VocabParallelEmbedding(AxisCell):
    """Looks up rows of a table, each rank with its part of the rows.

    Args:
        vocab_size: rows of the whole table.
        embedding_size: elements of a row.
        embedding_table: law of the whole table.
        dtype: of the table.
        axis: along which the rows are cut.

    Raises:
        TypeError: `axis` is no Axis.
        PlanError: the axis does not divide `vocab_size`, or does not fit its mesh.

    Source: Shoeybi et al., Megatron-LM (2019), section 3.
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        embedding_table: Init = "normal",
        dtype: DType = float32,
        *,
        axis: Axis,
    ) -> None:
        super().__init__(axis, sees_same_samples=True)
        self.vocab_size, self.embedding_size = vocab_size, embedding_size
        self.embedding_table = self.cut_parameter(
            embedding_table,
            (vocab_size, embedding_size),
            dtype,
            name="embedding_table",
            what="vocab_size",
        )

    def construct(self, ids: Tensor) -> Tensor:
        """Return [..., embedding_size] for ids [...], the same on every rank.

        Raises:
            ValueError: an id is out of range.

        Collective: the ranks along the axis.
        """
        numbers = ids.asnumpy()
        check_range(numbers, self.vocab_size, "VocabParallelEmbedding: id")
        part = self.axis.part_of(self.vocab_size, "vocab_size")
        is_own = (numbers >= part.start) & (numbers < part.stop)
        local = np.where(is_own, numbers - part.start, 0)
        table = self.embedding_table
        rows = gather(table, Tensor.wrap(local), 0)
        mask = is_own[..., np.newaxis].astype(rows.asnumpy().dtype)
        return leave(rows * Tensor.wrap(mask), self.axis)

    def extend_repr(self) -> str:
        """Return the settings."""
        return (
            f"vocab_size={self.vocab_size}, embedding_size={self.embedding_size}, "
            f"axis={self.axis.name} of {self.axis.size}"
        )


def parallel_cross_entropy(logits: Operand, labels: Operand, axis: Axis) -> Tensor:
    """Return the cross-entropy of every sample, from logits whose classes are cut.

    The largest logit, the sum of exponentials and the label's logit travel, three
    numbers a sample; the logits stay where they are.

    Args:
        logits: [samples, classes / ranks] this rank's part of the classes.
        labels: [samples] of an integer type, the same on every rank of the axis.
        axis: along which the classes are cut.

    Returns:
        [samples], the same on every rank of the axis.

    Raises:
        ValueError: shapes do not fit, or a label is out of range.

    Collective: the ranks along the axis.

    Source: Shoeybi et al., Megatron-LM (2019), section 3.
    """
    x = as_operand(logits, "parallel_cross_entropy")
    rows, targets = x._array, as_operand(labels, "parallel_cross_entropy")._array
    if rows.ndim != 2 or targets.shape != rows.shape[:1]:
        raise ValueError(
            f"parallel_cross_entropy: logits of shape {rows.shape} do not fit labels "
            f"of shape {targets.shape}: expected [samples, classes / ranks] and "
            "[samples]"
        )
    num_own = rows.shape[1]
    check_range(targets, num_own * axis.size, "parallel_cross_entropy: label")
    return cross_entropy_at(x, targets.astype(np.int64) - axis.index * num_own, axis)


def cross_entropy_at(logits: Tensor, columns: Array, axis: Axis) -> Tensor:
    """Return the cross-entropy of every sample whose label is some rank's column.

    Args:
        logits: [samples, columns] of any number of this rank's classes.
        columns: [samples] int64, where the label is; outside of the columns on all
            ranks but the one that has it.
        axis: along which the classes are cut.

    Returns:
        [samples], the same on every rank of the axis.

    Collective: the ranks along the axis.
    """
    rows = logits._array
    top = axis.maximum(rows.max(1), "cross-entropy, maximum")
    exponentials = np.exp(rows - top[:, np.newaxis])
    mine = np.flatnonzero((columns >= 0) & (columns < rows.shape[1]))
    facts = np.zeros((2, len(rows)), rows.dtype)
    np.sum(exponentials, 1, out=facts[0])
    facts[1, mine] = rows[mine, columns[mine]] - top[mine]
    totals = axis.all_reduce(facts, "cross-entropy, sums")
    losses = np.log(totals[0]) - totals[1]

    def vjp(g: Array) -> tuple[Array]:
        # softmax minus the one-hot label, made in the memory of the exponentials.
        np.multiply(exponentials, (g / totals[0])[:, np.newaxis], exponentials)
        exponentials[mine, columns[mine]] -= g[mine]
        return (exponentials,)

    return result(losses, (logits,), vjp)


def check_range(numbers: Array, limit: int, what: str) -> None:
    """Refuse numbers that are no integers in [0, limit).

    Raises:
        TypeError: they are no integers.
        ValueError: the first one outside, with its place.
    """
    if numbers.dtype.kind not in "iu":
        raise TypeError(f"{what}s are integers, not {numbers.dtype.name}")
    wrong = np.flatnonzero((numbers < 0) | (numbers >= limit))
    if wrong.size:
        place = np.unravel_index(wrong[0], numbers.shape)
        raise ValueError(
            f"{what} {numbers[place]} at {tuple(int(i) for i in place)} is outside of "
            f"[0, {limit})"
        )
