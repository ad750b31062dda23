"""The transformer with experts in the place of its feed-forward nets.

Each rank along an axis of the mesh has its own experts and its own samples, and words
travel to the experts that their gate likes best.
"""

from parallel_params import nn, ops
from parallel_params.nn.parallel import Axis, Experts
from parallel_params.tensor.tensor import Tensor
from parallel_params.train.config.models import ExpertsTable, GptModel
from parallel_params.train.models.gpt import LAW, Gpt
from parallel_params.train.models.judged import LossCell


class ExpertsBlock(nn.Cell):
    """x + attention(norm(x)), then x + experts(norm(x)).

    Args:
        model: the job's [model] table.
        table: its table of experts.
        axis: along which the experts are cut.
    """

    def __init__(self, model: GptModel, table: ExpertsTable, axis: Axis) -> None:
        super().__init__()
        self.attention_norm, self.feed_norm = (
            nn.RMSNorm(model.width)
            if model.norm == "rms"
            else nn.LayerNorm(model.width, has_bias=model.bias)
            for _ in range(2)
        )
        self.attention = nn.MultiheadAttention(
            model.width,
            model.heads,
            model.dropout,
            model.bias,
            batch_first=True,
            num_kv_heads=model.kv_heads,
            rotary=model.positions == "rotary",
            weight_init=LAW,
        )
        self.dropout = nn.Dropout(p=model.dropout)
        self.experts = Experts(
            model.width,
            model.hidden or 4 * model.width,
            table.num,
            axis=axis,
            top_k=table.top_k,
            capacity_factor=table.capacity_factor,
            activation=model.activation,
            weight_init=LAW,
        )

    def construct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return [num, length, width], and how unevenly the words were spread."""
        found, _ = self.attention(
            self.attention_norm(x), need_weights=False, is_causal=True
        )
        x = x + self.dropout(found)
        rows = self.feed_norm(x).reshape(-1, x.shape[-1])
        made, balance = self.experts(rows)
        return x + self.dropout(made.reshape(x.shape)), balance


class ExpertsGpt(Gpt, LossCell):
    """Words in, scores out, by way of experts.

    Args:
        model: the job's [model] table.
        context: words it can look back, at most.
        vocabulary: how many words there are.
        axis: along which the experts are cut.

    Raises:
        PlanError: the axis does not divide the experts.
    """

    def __init__(
        self, model: GptModel, context: int, vocabulary: int, axis: Axis
    ) -> None:
        assert model.experts is not None, "there is another class without"
        self._cut_along, self._table = axis, model.experts
        super().__init__(model, context, vocabulary)

    def features(self, words: Tensor) -> Tensor:
        """Return [num, length, width] what is known at every word."""
        return self._run(words)[0]

    def loss(self, x: Tensor, answers: Tensor) -> Tensor:
        """Compute the mean cross-entropy and, weighed, the balance of all layers."""
        features, balance = self._run(x)
        return self.told(features, answers) + balance * self._table.balance

    def counts(self) -> dict[str, int]:
        """Return how many choices there were, and how many found no room."""
        blocks = [block.experts for block in self.blocks]
        return {
            "choices": sum(experts.num_choices for experts in blocks),
            "dropped": sum(experts.num_dropped for experts in blocks),
        }

    def _run(self, words: Tensor) -> tuple[Tensor, Tensor]:
        x = self.enter(words)
        balances = []
        for block in self.blocks:
            x, balance = block(x)
            balances.append(balance)
        mean = ops.stack(balances).mean()
        features: Tensor = self.norm(x)
        return features, mean

    def _make_block(self, model: GptModel) -> nn.Cell:
        return ExpertsBlock(model, self._table, self._cut_along)
