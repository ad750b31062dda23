"""Expert layers: each rank has its own experts, and tokens travel to them and back.

Every token is sent to the expert, or the few, that a gate likes best. An expert takes
as many tokens from each rank as its capacity says; what is above is dropped, later
choices before earlier ones and later tokens before earlier ones.

Source: Lepikhin et al., GShard (2021), section 2.2, for capacity and order; Fedus et
al., Switch Transformers (2022), section 2.2, for the balance loss.
"""

import math

import numpy as np

from parallel_params.nn.layers.basic import Dense
from parallel_params.nn.parallel.axis import Axis
from parallel_params.nn.parallel.cell import AxisCell
from parallel_params.nn.parallel.passing import exchange, scaled
from parallel_params.nn.parameter import Parameter
from parallel_params.tensor.dtype import DType, float32
from parallel_params.tensor.initializer import Init
from parallel_params.tensor.ops.activation import named
from parallel_params.tensor.ops.indexing import gather
from parallel_params.tensor.ops.matmul import matmul
from parallel_params.tensor.ops.softmax import softmax
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor


class Experts(AxisCell):
    """A feed-forward layer of many experts, of which a token sees `top_k`.

    Args:
        in_channels: width of a token, in and out.
        hidden: width inside of an expert.
        num_experts: of all ranks together.
        top_k: experts per token.
        capacity_factor: an expert takes ceil(capacity_factor * top_k * tokens /
            num_experts) tokens from each rank.
        activation: elementwise, by name.
        weight_init: law of the experts' weights.
        dtype: of all weights.
        axis: along which the experts are cut; it cuts the batch too.

    Attributes:
        num_choices: of this rank's tokens while training, `top_k` each, so far.
        num_dropped: those of them that found no room.

    Raises:
        TypeError: `axis` is no Axis.
        ValueError: `top_k` or `capacity_factor` is out of range.
        PlanError: the axis does not divide the experts, or does not fit its mesh.
    """

    def __init__(
        self,
        in_channels: int,
        hidden: int,
        num_experts: int,
        *,
        axis: Axis,
        top_k: int = 1,
        capacity_factor: float = 1.25,
        activation: str = "relu",
        weight_init: Init = "xavier_uniform",
        dtype: DType = float32,
    ) -> None:
        super().__init__(axis, sees_same_samples=False)
        if not 1 <= top_k <= num_experts:
            raise ValueError(
                f"top_k lies between 1 and the {num_experts} experts, not at {top_k}"
            )
        if not capacity_factor > 0:
            raise ValueError(f"capacity_factor is above 0, not {capacity_factor}")
        self.in_channels, self.hidden = in_channels, hidden
        self.num_experts = num_experts
        self.top_k, self.capacity_factor = top_k, capacity_factor
        self._activation = named(activation)
        self.gate = Dense(
            in_channels, num_experts, weight_init, has_bias=False, dtype=dtype
        )
        self.up = self._weights("up", (in_channels, hidden), weight_init, dtype)
        self.down = self._weights("down", (hidden, in_channels), weight_init, dtype)
        self.num_choices = self.num_dropped = 0

    def construct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return [tokens, in_channels], and the balance loss, a number.

        The balance loss is 1 when the tokens spread evenly and grows up to the number
        of experts; a small multiple of it is added to the loss.

        Args:
            x: [tokens, in_channels], equally many on every rank of the axis.

        Collective: the ranks along the axis, in backward too.
        """
        chances = softmax(self.gate(x))
        choices = _best(chances.asnumpy(), self.top_k)
        capacity = self.capacity(len(choices))
        places, source = _seats(choices, self.num_experts, capacity)
        if self.training:
            self.num_choices += places.size
            self.num_dropped += int(np.count_nonzero(places < 0))
        out = self._run_experts(_rows_or_zeros(x, source), capacity)
        seen = _rows_or_zeros(out, places.reshape(-1))
        flat = np.arange(len(choices))[:, np.newaxis] * self.num_experts + choices
        weights = gather(chances.reshape(-1), Tensor.wrap(flat.reshape(-1)), 0)
        mixed = (seen * weights.reshape(-1, 1)).reshape(
            len(choices), self.top_k, self.in_channels
        )
        return mixed.sum(1), self._balance(chances, choices)

    def capacity(self, num_tokens: int) -> int:
        """Return how many tokens an expert takes from a rank that has so many."""
        share = self.capacity_factor * self.top_k * num_tokens / self.num_experts
        return max(1, math.ceil(share))

    def extend_repr(self) -> str:
        """Return the settings."""
        return (
            f"in_channels={self.in_channels}, hidden={self.hidden}, "
            f"num_experts={self.num_experts}, top_k={self.top_k}, "
            f"capacity_factor={self.capacity_factor}, "
            f"axis={self.axis.name} of {self.axis.size}"
        )

    def _weights(
        self, name: str, widths: tuple[int, int], law: Init, dtype: DType
    ) -> Parameter:
        """Return this rank's experts' weights of one kind."""
        shape = (self.num_experts, *widths)
        return self.cut_parameter(law, shape, dtype, name=name, what="num_experts")

    def _run_experts(self, seats: Tensor, capacity: int) -> Tensor:
        """Return what the experts make of [num_experts * capacity, in_channels]."""
        size, own = self.axis.size, self.up.shape[0]
        width = self.in_channels
        arrived = exchange(seats, self.axis).reshape(size, own, capacity, width)
        tokens = arrived.transpose(1, 0, 2, 3).reshape(own, size * capacity, width)
        # As in `ShardedClassifier`: these weights see the samples of all shares.
        up, down = (scaled(w, 1.0 / size) for w in (self.up, self.down))
        made = matmul(self._activation(matmul(tokens, up)), down)
        back = made.reshape(own, size, capacity, width).transpose(1, 0, 2, 3)
        return exchange(back.reshape(size * own * capacity, width), self.axis)

    def _balance(self, chances: Tensor, choices: Array) -> Tensor:
        counts = np.bincount(choices[:, 0], minlength=self.num_experts)
        shares = (counts / len(choices)).astype(chances.asnumpy().dtype)
        balance: Tensor = (chances.mean(0) * Tensor.wrap(shares)).sum()
        return balance * self.num_experts


def _best(chances: Array, top_k: int) -> Array:
    """Return [tokens, top_k] the experts of the largest chances, best first."""
    order: Array = np.argsort(-chances, 1, kind="stable")
    return order[:, :top_k]


def _seats(choices: Array, num_experts: int, capacity: int) -> tuple[Array, Array]:
    """Give each choice a seat at its expert, first choices first.

    Returns:
        [tokens, top_k] the seat of a choice, expert * capacity + place, or -1; and
        [num_experts * capacity] the token in a seat, or -1.
    """
    in_turn = choices.T.reshape(-1)
    order = np.argsort(in_turn, kind="stable")
    counts = np.bincount(in_turn, minlength=num_experts)
    first = np.cumsum(counts) - counts
    place = np.empty(len(in_turn), np.int64)
    place[order] = np.arange(len(in_turn)) - first[in_turn[order]]
    seats = np.where(place < capacity, in_turn * capacity + place, -1)
    source = np.full(num_experts * capacity, -1, np.int64)
    tokens = np.tile(np.arange(len(choices)), choices.shape[1])
    source[seats[seats >= 0]] = tokens[seats >= 0]
    return seats.reshape(choices.shape[::-1]).T, source


def _rows_or_zeros(x: Tensor, rows: Array) -> Tensor:
    """Return the named rows of x; zeros for row -1."""
    is_there = (rows >= 0)[:, np.newaxis].astype(x.asnumpy().dtype)
    found = gather(x, Tensor.wrap(np.maximum(rows, 0)), 0)
    return found * Tensor.wrap(is_there)
