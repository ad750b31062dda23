"""The [model] table: one dataclass per kind of model.

Keys and defaults only. `train/models/` builds what they describe.
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import ConfigDict, Field

from parallel_params.train.config.limits import (
    STRICT,
    Count,
    Function,
    NotNegative,
    Options,
    Positive,
    Text,
)

Dropped: TypeAlias = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class MlpModel:
    """A stack of dense layers."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    kind: Literal["mlp"]
    """Which model: dense layers with an activation between them."""
    hidden: tuple[Count, ...]
    """Width of each hidden layer; an empty list is logistic or linear regression."""
    activation: Literal["relu", "gelu", "tanh", "sigmoid"] = "relu"
    """What stands between two layers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvnetModel:
    """Convolutions over pictures, each halving them, then dense layers."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    kind: Literal["convnet"]
    """Which model: convolutions over pictures, each halving them, then dense layers."""
    channels: Annotated[tuple[Count, ...], Field(min_length=1)]
    """Channels behind each convolution; a pool halves height and width after it."""
    kernel: Count = 3
    """Height and width of a kernel."""
    hidden: tuple[Count, ...] = ()
    """Width of each hidden layer behind the last convolution."""
    activation: Literal["relu", "gelu", "tanh", "sigmoid"] = "relu"
    """What stands behind a convolution, and between two layers."""
    norm: Literal["none", "batch"] = "none"
    """Is a channel brought to mean 0 and deviation 1 over a grain, behind each."""
    dropout: Dropped = 0.0
    """Chance of what enters the dense layers to become zero while training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassesModel:
    """Dense layers, then a classifier of many classes that are cut along an axis."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    kind: Literal["classes"]
    """Which model: dense layers, then many classes, cut along an axis of the mesh."""
    hidden: tuple[Count, ...] = ()
    """Width of each layer in front of the classes; the last is that of a feature."""
    activation: Literal["relu", "gelu", "tanh", "sigmoid"] = "relu"
    """What stands between two layers."""
    axis: Text = "classes"
    """Axis of parallel.mesh along which the classes are cut; it cuts the batch too."""
    sampled: Count | None = None
    """Classes of a rank to compare with while training; by default all it has."""
    scale: Positive = 1.0
    """What features are multiplied by in front of the classes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertsTable:
    """Experts in the place of the feed-forward nets."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    num: Count
    """Experts of a layer, of all ranks together."""
    axis: Text = "expert"
    """Axis of parallel.mesh along which they are cut; it cuts the batch too."""
    top_k: Count = 1
    """Experts that see a word."""
    capacity_factor: Positive = 1.25
    """Room of an expert, in even shares of a rank's words; what is above is dropped."""
    balance: NotNegative = 0.01
    """Weight of the loss that spreads the words over the experts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GptModel:
    """A transformer that tells the next word."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    kind: Literal["gpt"]
    """Which model: a transformer that looks back, for words."""
    layers: Count
    """Blocks of attention and a feed-forward net."""
    width: Count
    """Numbers per word between the blocks."""
    heads: Count
    """Heads of attention; they share the width evenly."""
    kv_heads: Count | None = None
    """Heads of keys and values, each serves an equal share of heads; by default all."""
    hidden: Count | None = None
    """Width inside the feed-forward net; by default 4 times width (swiglu 8/3)."""
    activation: Literal["gelu", "relu", "silu", "swiglu"] = "gelu"
    """Of the feed-forward net; swiglu has a gate, a third matrix."""
    norm: Literal["layer", "rms"] = "layer"
    """In front of attention, feed-forward net and the scores."""
    positions: Literal["learned", "rotary"] = "learned"
    """How a word knows its place: a learned vector, or turned queries and keys."""
    dropout: Dropped = 0.0
    """Chance of an element to become zero while training."""
    bias: bool = True
    """Have products and layer norms a bias."""
    tied: bool = True
    """Are the table of words and the matrix of scores one parameter."""
    cut_words: bool = False
    """With an axis model in parallel.mesh: cut the table of words along it, too."""
    experts: ExpertsTable | None = None
    """Experts in the place of the feed-forward nets; none: there is one for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionModel:
    """What a function of yours builds."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    kind: Literal["function"]
    """Which model: function(sample_shape, num_outputs, **options), a cell."""
    function: Function
    """`module:function`; looked for in the folder the job is started in, too."""
    options: Options = field(default_factory=dict)
    """What the function is called with besides."""


Model: TypeAlias = Annotated[
    MlpModel | ConvnetModel | GptModel | ClassesModel | FunctionModel,
    Field(discriminator="kind"),
]
