"""The networks that all contestants train: shapes, start weights, batches, products.

The same on every rank and for every library, by seed; NumPy alone. How a library builds
them is in `our_models` and `torch_models`.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NUM_BATCHES = 8  # of each rank, used in turn
LEARNING_RATE, WEIGHT_DECAY, EPS = 1e-3, 0.01, 1e-8

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]
Sample = NDArray[np.float32] | NDArray[np.int64]

# Of the GPT: layers, width, heads, tokens of a sample, words.
LAYERS, WIDTH, HEADS, LENGTH, WORDS = 4, 256, 4, 128, 4096
# Of the convnet: sides of a picture, channels behind each convolution, dense, classes.
SIDE, CHANNELS, DENSE, CLASSES = 28, (16, 32), 128, 10
KERNEL = 3  # sides of a convolution's kernel, one pixel of padding


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One network and how it is timed.

    Attributes:
        name: as it was asked for.
        text: for a reader.
        widths: of the layers of an MLP; empty for the others.
        batch: samples of each rank, unless somebody asks for another number.
        num_steps: timed steps of a turn; about half a second.
        gains: which parameters are factors of a norm, by their order.
    """

    name: str
    text: str
    widths: tuple[int, ...] = ()
    batch: int
    num_steps: int
    gains: frozenset[int] = frozenset()


def model_of(name: str) -> Model:
    """Return the model of a name, or the MLP of a list of widths.

    Raises:
        ValueError: there is none.
    """
    if name in MODELS:
        return MODELS[name]
    widths = tuple(int(width) for width in name.split(","))
    if len(widths) < 2 or min(widths) < 1:
        raise ValueError(f"an MLP has two widths or more, all positive, not {name!r}")
    text = f"MLP {'-'.join(map(str, widths))}"
    return Model(name=name, text=text, widths=widths, batch=64, num_steps=5)


# In order: word and position tables, then of each block the gain and shift of a norm,
# qkv, projection, gain and shift, two dense layers; in the end gain, shift, head.
_GPT_GAINS = frozenset(
    {2 + 12 * layer for layer in range(LAYERS)}
    | {2 + 12 * layer + 6 for layer in range(LAYERS)}
    | {2 + 12 * LAYERS}
)
MODELS = {
    "tiny": Model(
        name="tiny",
        text="MLP 64-128-10, batch 32",
        widths=(64, 128, 10),
        batch=32,
        num_steps=400,
    ),
    "mlp": Model(
        name="mlp",
        text="MLP 784-2048-2048-2048-10, batch 64",
        widths=(784, 2048, 2048, 2048, 10),
        batch=64,
        num_steps=5,
    ),
    "gpt": Model(
        name="gpt",
        text=f"GPT, {LAYERS} layers, width {WIDTH}, {HEADS} heads, {LENGTH} tokens, "
        f"{WORDS} words, batch 8",
        batch=8,
        num_steps=3,
        gains=_GPT_GAINS,
    ),
    "convnet": Model(
        name="convnet",
        text=f"convnet {SIDE}x{SIDE}, {CHANNELS[0]} and {CHANNELS[1]} channels, dense "
        f"{DENSE}, batch 64",
        batch=64,
        num_steps=10,
    ),
}


def fill_start(parameters: Iterable[Float32], model: Model) -> None:
    """Write the start values in place: what is allocated is the contestants' own.

    Args:
        parameters: in the order in which the layers are used, a weight before its bias.
        model: which of them are gains.
    """
    rng = np.random.default_rng(1)
    bound = np.float32(0)
    for index, array in enumerate(parameters):
        if array.ndim > 1:
            bound = np.float32(1 / math.sqrt(math.prod(array.shape[1:])))
        rng.random(dtype=np.float32, out=array)
        array *= 2 * bound
        array -= bound
        if index in model.gains:
            array += 1


def batches(model: Model, *, rank: int, batch: int) -> list[tuple[Sample, Int64]]:
    """Make the batches of one rank: uniform inputs, or words, and labels at random."""
    rng = np.random.default_rng([2, rank, batch])
    if model.name == "gpt":
        text = rng.integers(0, WORDS, (NUM_BATCHES, batch, LENGTH + 1))
        return [(each[:, :-1].copy(), each[:, 1:].copy()) for each in text]
    shape = (1, SIDE, SIDE) if model.name == "convnet" else model.widths[:1]
    classes = CLASSES if model.name == "convnet" else model.widths[-1]
    return [
        (rng.random((batch, *shape), np.float32), rng.integers(0, classes, batch))
        for _ in range(NUM_BATCHES)
    ]


def product_flops(model: Model, batch: int) -> float:
    """Return the operations of one step inside of products of matrices.

    Forward counts once, backward twice, but for the gradient of a network's input.
    Attention counts all scores, also those behind a causal mask: what is skipped is
    won.
    """
    layers = _products(model, batch)
    first, *rest = layers
    return sum(3 * flops for flops in rest) + (
        3 * first if model.name == "gpt" else 2 * first
    )


def _products(model: Model, batch: int) -> list[float]:
    """Return the forward operations of every product, in order."""
    if model.name == "gpt":
        rows = batch * LENGTH
        scores = 2.0 * rows * LENGTH * WIDTH
        dense = [2.0 * rows * WIDTH * WIDTH * n for n in (3, 1, 4, 4)]
        return [*[*dense, scores, scores] * LAYERS, 2.0 * rows * WIDTH * WORDS]
    if model.name == "convnet":
        inputs, flops, side = 1, [], SIDE
        for channels in CHANNELS:
            pixels = batch * side * side
            flops.append(2.0 * pixels * KERNEL * KERNEL * inputs * channels)
            inputs, side = channels, side // 2
        widths: Sequence[int] = (inputs * side * side, DENSE, CLASSES)
    else:
        flops, widths = [], model.widths
    pairs = itertools.pairwise(widths)
    return [*flops, *(2.0 * batch * n * m for n, m in pairs)]
