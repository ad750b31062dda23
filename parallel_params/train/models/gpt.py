"""A transformer that tells the next word from those before it.

Source: Radford et al., Language Models are Unsupervised Multitask Learners (2019),
section 2.3; the choices beside it are those of the [model] table.
"""

import numpy as np

from parallel_params import nn, ops
from parallel_params.tensor.initializer import Init, Normal
from parallel_params.tensor.tensor import Tensor
from parallel_params.train.config.models import GptModel

LAW: Init = Normal(0.02)


class Gpt(nn.Cell):
    """Words in, scores of the next word out.

    Args:
        model: the job's [model] table.
        context: words it can look back, at most.
        vocabulary: how many words there are.
    """

    def __init__(self, model: GptModel, context: int, vocabulary: int) -> None:
        super().__init__()
        self.words = self._make_table(model, vocabulary)
        self.places: nn.Embedding | None = None
        if model.positions == "learned":
            self.places = nn.Embedding(context, model.width, embedding_table=LAW)
        self.drop = nn.Dropout(p=model.dropout)
        self.blocks = nn.CellList(
            [self._make_block(model) for _ in range(model.layers)]
        )
        self.norm = _norm(model)
        self.scores = None if model.tied else self._make_scores(model, vocabulary)

    def construct(self, words: Tensor) -> Tensor:
        """Return [num, length, vocabulary] scores for [num, length] words."""
        return self.score(self.features(words))

    def features(self, words: Tensor) -> Tensor:
        """Return [num, length, width] what is known at every word."""
        x = self.enter(words)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.norm(x)
        return out

    def enter(self, words: Tensor) -> Tensor:
        """Return [num, length, width] words and places as vectors."""
        x = self.words(words)
        if self.places is not None:
            x = x + self.places(Tensor(np.arange(words.shape[1], dtype=np.int32)))
        out: Tensor = self.drop(x)
        return out

    def score(self, x: Tensor) -> Tensor:
        """Return [num, length, vocabulary] scores for features."""
        if self.scores is not None:
            scores: Tensor = self.scores(x)
            return scores
        return ops.matmul(x, self.words.embedding_table.transpose())

    def told(
        self, features: Tensor, answers: Tensor, label_smoothing: float = 0.0
    ) -> Tensor:
        """Compute the mean cross-entropy of [num, length] words, 0-d."""
        table = (
            self.words.embedding_table if self.scores is None else self.scores.weight
        )
        return ops.linear_cross_entropy(
            features, table, answers, label_smoothing=label_smoothing
        )

    def _make_table(self, model: GptModel, vocabulary: int) -> nn.Cell:
        return nn.Embedding(vocabulary, model.width, embedding_table=LAW)

    def _make_scores(self, model: GptModel, vocabulary: int) -> nn.Cell:
        return nn.Dense(model.width, vocabulary, LAW, has_bias=False)

    def _make_block(self, model: GptModel) -> nn.Cell:
        return nn.TransformerBlock(
            model.width,
            model.heads,
            model.hidden,
            num_kv_heads=model.kv_heads,
            rotary=model.positions == "rotary",
            norm=model.norm,
            activation=model.activation,
            dropout=model.dropout,
            has_bias=model.bias,
            weight_init=LAW,
        )


def _norm(model: GptModel) -> nn.Cell:
    if model.norm == "rms":
        return nn.RMSNorm(model.width)
    return nn.LayerNorm(model.width, has_bias=model.bias)
