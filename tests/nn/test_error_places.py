"""An error says in which cell it happened, once; a user's own keeps its text."""

import numpy as np
import pytest

from parallel_params import nn, ops
from parallel_params.tensor import Tensor, value_and_grad
from parallel_params.tensor.dtype import float64

X = Tensor(np.ones((7, 2), np.float32))


def nested(last: nn.Cell) -> nn.SequentialCell:
    """Return a net with `last` at path '1.1'."""
    return nn.SequentialCell(nn.Dense(2, 3), nn.SequentialCell(nn.ReLU(), last))


class Picky(nn.Cell):
    """A cell that has its own opinion."""

    def construct(self, x: Tensor) -> Tensor:
        """Refuse everything."""
        raise ValueError(f"I refuse {x.shape}")


class Forgiving(nn.Cell):
    """A cell that tries another cell, and goes on without it."""

    def __init__(self) -> None:
        super().__init__()
        self.tried = nn.Dense(9, 1)
        self.said = ""

    def construct(self, x: Tensor) -> Tensor:
        """Return x, having kept what the other cell said."""
        try:
            self.tried(x)
        except ValueError as error:
            self.said = str(error)
        return x


def test_shapes_that_do_not_fit_are_said_with_the_operator_and_the_path() -> None:
    with pytest.raises(
        ValueError, match=r"linear: x of shape \(7, 3\) .* \(5, 4\)"
    ) as e:
        nested(nn.Dense(4, 5))(X)
    assert str(e.value).endswith(" (in cell '1.1' (Dense))")
    assert str(e.value).count("in cell") == 1


def test_types_that_do_not_mix_are_said_with_the_path() -> None:
    with pytest.raises(
        TypeError, match=r"one element type.* \(in cell '0' \(Dense\)\)"
    ):
        nested(nn.Dense(3, 1))(X.astype(float64))


def test_numbers_out_of_range_are_said_with_the_path() -> None:
    net = nn.SequentialCell(nn.Embedding(3, 4))
    with pytest.raises(IndexError, match=r"number 5 .* \(in cell '0' \(Embedding\)\)"):
        net(Tensor(np.array([5])))


def test_a_recomputed_cell_is_named_too() -> None:
    last = nn.Dense(4, 5)
    last.recompute()
    net = nested(last)
    with pytest.raises(ValueError, match=r"\(in cell '1.1' \(Dense\)\)$"):
        value_and_grad(lambda x: net(x).sum())(X)


def test_what_a_user_raises_keeps_its_text() -> None:
    with pytest.raises(ValueError, match=r"^I refuse \(7, 3\)$"):
        nested(Picky())(X)


def test_outside_of_cells_nothing_is_added() -> None:
    with pytest.raises(ValueError, match="linear") as e:
        ops.linear(X, Tensor(np.ones((4, 5), np.float32)))
    assert "in cell" not in str(e.value)


def test_an_error_that_was_caught_does_not_mark_the_next_one() -> None:
    forgiving = Forgiving()
    net = nn.SequentialCell(forgiving, nn.Dense(5, 1))
    with pytest.raises(ValueError, match=r"\(in cell '1' \(Dense\)\)$"):
        net(X)
    assert forgiving.said.endswith("(in cell '0.tried' (Dense))")
