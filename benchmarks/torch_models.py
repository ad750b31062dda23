"""The networks of `models`, built of PyTorch's modules in the fastest way it has."""

import itertools
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

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


def mlp(widths: Sequence[int]) -> nn.Sequential:
    """Return dense layers with relu between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Block(nn.Module):
    """Attention and two dense layers, each on a normed input and added to it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.project = nn.Linear(WIDTH, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.up = nn.Linear(WIDTH, 4 * WIDTH)
        self.down = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Return [batch, tokens, width]."""
        batch, length, _ = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, length, 3, HEADS, WIDTH // HEADS)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.project(mixed.transpose(1, 2).reshape(batch, length, WIDTH))
        hidden = functional.gelu(self.up(self.norm2(x)), approximate="tanh")
        return x + self.down(hidden)


class Gpt(nn.Module):
    """Words in, scores of the next word out."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.places = nn.Embedding(LENGTH, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, WORDS, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return [batch * tokens, words], as the loss wants them."""
        x = self.words(x) + self.places.weight
        return self.head(self.norm(self.blocks(x))).view(-1, WORDS)


def convnet() -> nn.Sequential:
    """Return two convolutions with pooling, and two dense layers."""
    layers: list[nn.Module] = []
    inputs, side = 1, SIDE
    for channels in CHANNELS:
        layers += [nn.Conv2d(inputs, channels, KERNEL, padding=1)]
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
        inputs, side = channels, side // 2
    layers += [nn.Flatten(), nn.Linear(inputs * side * side, DENSE), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(DENSE, CLASSES))


def build(model: Model) -> nn.Module:
    """Return the network; its scores go into a cross-entropy over rows."""
    if model.name == "gpt":
        return Gpt()
    return convnet() if model.name == "convnet" else mlp(model.widths)


def layers_of(net: nn.Module) -> list[nn.Module]:
    """Return what FSDP shards one by one: blocks of a GPT, else layers with weights."""
    if isinstance(net, Gpt):
        # The places are read as a weight, so they stay with the whole.
        return [net.words, *net.blocks, net.head]
    return [
        layer for layer in net.children() if isinstance(layer, nn.Linear | nn.Conv2d)
    ]
