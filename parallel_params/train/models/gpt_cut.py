"""The transformer with heads and feed-forward nets cut along an axis of the mesh.

Its weights start as slices of those of `Gpt`; losses are the same to rounding.
"""

from parallel_params import nn, ops
from parallel_params.nn import parallel
from parallel_params.nn.parallel import Axis
from parallel_params.tensor.tensor import Tensor
from parallel_params.train.config.models import GptModel
from parallel_params.train.models.gpt import LAW, Gpt
from parallel_params.train.models.judged import LossCell


class CutGpt(Gpt):
    """Words in, scores out; every rank has some heads and a part of each inner width.

    Args:
        model: the job's [model] table.
        context: words it can look back, at most.
        vocabulary: how many words there are.
        axis: along which the blocks are cut.

    Raises:
        PlanError: the axis does not divide heads or widths.
    """

    def __init__(
        self, model: GptModel, context: int, vocabulary: int, axis: Axis
    ) -> None:
        self._cut_along = axis
        super().__init__(model, context, vocabulary)

    def _make_block(self, model: GptModel) -> nn.Cell:
        return parallel.ParallelTransformerBlock(
            model.width,
            model.heads,
            model.hidden,
            axis=self._cut_along,
            num_kv_heads=model.kv_heads,
            rotary=model.positions == "rotary",
            norm=model.norm,
            activation=model.activation,
            dropout=model.dropout,
            has_bias=model.bias,
            weight_init=LAW,
        )


class CutWordsGpt(CutGpt, LossCell):
    """The same with the table of words cut as well: no rank has all scores in training.

    Raises:
        PlanError: the axis does not divide the vocabulary either.
    """

    def score(self, x: Tensor) -> Tensor:
        """Return [num, length, vocabulary] scores for features, put together."""
        return parallel.leave_cut(self._own_scores(x), self._cut_along)

    def loss(self, x: Tensor, answers: Tensor) -> Tensor:
        """Compute the mean cross-entropy of [num, length] words, 0-d."""
        own = self._own_scores(self.features(x))
        losses = parallel.parallel_cross_entropy(
            own.reshape(-1, own.shape[-1]), answers.reshape(-1), self._cut_along
        )
        mean: Tensor = losses.mean()
        return mean

    def _own_scores(self, x: Tensor) -> Tensor:
        if self.scores is not None:
            scores: Tensor = self.scores(x)
            return scores
        whole = parallel.enter(x, self._cut_along)
        return ops.matmul(whole, self.words.embedding_table.transpose())

    def _make_table(self, model: GptModel, vocabulary: int) -> nn.Cell:
        return parallel.VocabParallelEmbedding(
            vocabulary, model.width, embedding_table=LAW, axis=self._cut_along
        )

    def _make_scores(self, model: GptModel, vocabulary: int) -> nn.Cell:
        return parallel.ColumnParallelDense(
            model.width, vocabulary, LAW, has_bias=False, axis=self._cut_along
        )
