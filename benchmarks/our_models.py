"""The networks of `models`, built of this package's cells."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np

import parallel_params as pp
from benchmarks.models import (
    CHANNELS,
    CLASSES,
    DENSE,
    HEADS,
    KERNEL,
    LAYERS,
    LENGTH,
    SIDE,
    WIDTH,
    WORDS,
    Model,
)
from parallel_params import nn, ops

Loss = Callable[[pp.Tensor, pp.Tensor], pp.Tensor]


def mlp(widths: Sequence[int]) -> nn.SequentialCell:
    """Return dense layers with relu between them."""
    last = len(widths) - 2
    return nn.SequentialCell(
        *(
            nn.Dense(inputs, outputs, activation="relu" if i < last else None)
            for i, (inputs, outputs) in enumerate(itertools.pairwise(widths))
        )
    )


class Gpt(nn.Cell):
    """Words in, scores of the next word out."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.places = nn.Embedding(LENGTH, WIDTH)
        self.blocks = nn.SequentialCell(
            *(nn.TransformerBlock(WIDTH, HEADS) for _ in range(LAYERS))
        )
        self.norm = nn.LayerNorm(WIDTH, epsilon=1e-5)
        self.head = nn.Dense(WIDTH, WORDS, has_bias=False)
        self._order = pp.Tensor(np.arange(LENGTH))

    def construct(self, x: pp.Tensor) -> pp.Tensor:
        """Return [batch, tokens, words]."""
        return self.head(self._features(x))

    def loss(self, x: pp.Tensor, y: pp.Tensor) -> pp.Tensor:
        """Return the mean loss of the next words y."""
        return ops.linear_cross_entropy(self._features(x), self.head.weight, y)

    def _features(self, x: pp.Tensor) -> pp.Tensor:
        x = self.words(x) + self.places(self._order)
        features: pp.Tensor = self.norm(self.blocks(x))
        return features


def convnet() -> nn.SequentialCell:
    """Return two convolutions with pooling, and two dense layers."""
    layers: list[nn.Cell] = []
    inputs, side = 1, SIDE
    for channels in CHANNELS:
        layers += [
            nn.Conv2d(inputs, channels, KERNEL, pad_mode="same", has_bias=True),
            nn.ReLU(),
            nn.MaxPool2d(2, 2),
        ]
        inputs, side = channels, side // 2
    layers += [
        nn.Flatten(),
        nn.Dense(inputs * side * side, DENSE, activation="relu"),
        nn.Dense(DENSE, CLASSES),
    ]
    return nn.SequentialCell(*layers)


def build(model: Model) -> tuple[nn.Cell, Loss]:
    """Return the network and its loss of a batch."""
    if model.name == "gpt":
        gpt = Gpt()
        return gpt, gpt.loss
    net = convnet() if model.name == "convnet" else mlp(model.widths)
    return net, lambda x, y: ops.cross_entropy(net(x), y)
