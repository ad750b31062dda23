"""A transformer that tells the next word from those before it.

Source: Radford et al., Language Models are Unsupervised Multitask Learners (2019),
section 2.3; the choices beside it are those of the [model] table.
"""

import numpy as np

from parallel_params import nn, ops
from parallel_params.errors import ConfigError
from parallel_params.tensor.initializer import Init, Normal
from parallel_params.tensor.tensor import Tensor
from parallel_params.train.config.models import GptModel
from parallel_params.train.data.dataset import Interface

_SIGMA = 0.02


class Gpt(nn.Cell):
    """Words in, scores of the next word out.

    Args:
        model: the job's [model] table.
        context: words it can look back, at most.
        vocabulary: how many words there are.
    """

    def __init__(self, model: GptModel, context: int, vocabulary: int) -> None:
        super().__init__()
        law: Init = Normal(_SIGMA)
        self.words = nn.Embedding(vocabulary, model.width, embedding_table=law)
        self.places: nn.Embedding | None = None
        if model.positions == "learned":
            self.places = nn.Embedding(context, model.width, embedding_table=law)
        self.drop = nn.Dropout(p=model.dropout)
        self.blocks = nn.CellList([_block(model, law) for _ in range(model.layers)])
        self.norm = _norm(model)
        self.scores: nn.Dense | None = None
        if not model.tied:
            self.scores = nn.Dense(model.width, vocabulary, law, has_bias=False)

    def construct(self, words: Tensor) -> Tensor:
        """Return [num, length, vocabulary] scores for [num, length] words."""
        x = self.words(words)
        if self.places is not None:
            x = x + self.places(Tensor(np.arange(words.shape[1], dtype=np.int32)))
        x = self.drop(x)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        if self.scores is not None:
            scores: Tensor = self.scores(x)
            return scores
        return ops.matmul(x, self.words.embedding_table.transpose())


def build_gpt(model: GptModel, interface: Interface) -> Gpt:
    """Build the transformer of a job.

    Raises:
        ConfigError: the samples are no words, or the heads do not fit the width.
    """
    if not interface.is_text:
        problem = 'model.kind: "gpt" takes words, and the data are numbers; use "mlp"'
        raise ConfigError([problem])
    kv_heads = model.kv_heads or model.heads
    problems = []
    if model.width % model.heads:
        problems.append(
            f"model.heads: {model.heads} heads cannot share a width of {model.width} "
            "evenly"
        )
    if model.heads % kv_heads:
        problems.append(
            f"model.kv_heads: {kv_heads} cannot serve {model.heads} heads evenly"
        )
    if model.positions == "rotary" and model.width // model.heads % 2:
        problems.append(
            f'model.positions: "rotary" turns pairs, and a head has an odd width, '
            f"{model.width // model.heads}"
        )
    if problems:
        raise ConfigError(problems)
    return Gpt(model, interface.sample_shape[0], interface.num_outputs)


def describe_gpt(model: GptModel, interface: Interface) -> str:
    """Write it in a word and its sizes: gpt 4x96, 4 heads, vocabulary 103, ..."""
    words = f"vocabulary {interface.num_outputs}, context {interface.sample_shape[0]}"
    return f"gpt {model.layers}x{model.width}, {model.heads} heads, {words}"


def _block(model: GptModel, law: Init) -> nn.TransformerBlock:
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
        weight_init=law,
    )


def _norm(model: GptModel) -> nn.Cell:
    if model.norm == "rms":
        return nn.RMSNorm(model.width)
    return nn.LayerNorm(model.width, has_bias=model.bias)
