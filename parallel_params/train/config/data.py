"""The [data] table: one dataclass per kind of data.

Keys and defaults only. `train/data/` reads what they name.
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import ConfigDict, Field

from parallel_params.train.config.limits import (
    STRICT,
    Count,
    Fraction,
    Function,
    Options,
    Positive,
    Text,
)

Tested: TypeAlias = Annotated[float, Field(gt=0, lt=1)]
Task: TypeAlias = Literal["classification", "regression"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonData:
    """What every kind of data has.

    Meanings stand in the types here: pydantic reads a class's own docstrings alone.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: str
    batch: Annotated[
        Count,
        Field(
            description="Samples per step of the whole world; each rank takes its part."
        ),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class DigitsData(CommonData):
    """Handwritten digits, 8x8 pixels, shipped inside the package."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Literal["digits"]
    """Which data: the 1437 + 360 handwritten digits inside the package."""
    shift: Fraction = 0.0
    """Pixels by which a training picture is moved at random, at most; up to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MnistData(CommonData):
    """Handwritten digits, 28x28 pixels, of the extra `mnist`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Literal["mnist5000"]
    """Which data: 4000 + 1000 digits of MNIST, which the extra `mnist` brings."""
    shift: Fraction = 0.0
    """Pixels by which a training picture is moved at random, at most; up to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WineData(CommonData):
    """A chemical analysis of wines, shipped inside the package; a regression."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Literal["wine"]
    """Which data: alcohol of 142 + 36 wines from 12 measures, inside the package."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NpzData(CommonData):
    """Samples from an .npz file."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Literal["npz"]
    """Which data: arrays x, y, test_x and test_y of an .npz file."""
    path: Text
    """The .npz file, relative to the folder the job is started in."""
    task: Task = "classification"
    """Whether y are classes, whole numbers from 0, or numbers to be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NpyData(CommonData):
    """Samples from .npy files, mapped and not copied."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Literal["npy"]
    """Which data: .npy files, which are mapped: a rank reads only what it takes."""
    x: Text
    """File of the samples to learn from, [num, ...] numbers."""
    y: Text
    """File of their classes or targets, [num] or [num, targets]."""
    test_x: Text
    """File of the samples to test on."""
    test_y: Text
    """File of the classes or targets of test_x."""
    task: Task = "classification"
    """Whether y are classes, whole numbers from 0, or numbers to be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvData(CommonData):
    """A table of numbers."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Literal["csv"]
    """Which data: a table of numbers, .csv or .csv.gz; its first line names columns."""
    path: Text
    """The table, relative to the folder the job is started in."""
    target: Text
    """Name of the column to be told from the others; its number if none has a name."""
    test_path: Text | None = None
    """Table of the same columns to test on; by default a part of the first."""
    test_share: Tested = 0.2
    """Share of the rows that is held out, evenly spread, without test_path."""
    standardize: bool = True
    """Take off means and divide by deviations, those of the training rows."""
    task: Task = "classification"
    """Whether the target is a class, a whole number from 0, or a number to be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicsData(CommonData):
    """CPython's language reference, character by character."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Literal["topics"]
    """Which data: the language reference inside of Python (pydoc_data.topics)."""
    context: Count
    """Words of a window, which is a sample; in a text, characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextData(CommonData):
    """A text, character by character."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Literal["text"]
    """Which data: the characters of a text in UTF-8."""
    path: Text
    """The text, relative to the folder the job is started in."""
    context: Count
    """Words of a window, which is a sample; in a text, characters."""
    test_path: Text | None = None
    """Text to test on; by default the last part of the first."""
    test_share: Tested = 0.1
    """Share of the text that is held out, without test_path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokensData(CommonData):
    """Tokens of a file, mapped and not copied."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Literal["tokens"]
    """Which data: a file of bare numbers, as nanoGPT's .bin, which is mapped."""
    path: Text
    """The file, relative to the folder the job is started in."""
    vocabulary: Count
    """How many different tokens there are; each is below this."""
    context: Count
    """Words of a window, which is a sample; in a text, characters."""
    dtype: Literal["uint8", "uint16", "int32", "uint32"] = "uint16"
    """What a token is in the file, little-endian."""
    test_path: Text | None = None
    """File to test on; by default the last part of the first."""
    test_share: Tested = 0.1
    """Share of the tokens that is held out, without test_path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClustersData(CommonData):
    """Points around many centers, which are made when they are asked for."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Literal["clusters"]
    """Which data: points around a center per class, made by position, never stored."""
    classes: Count = 1000
    """How many classes there are."""
    features: Count = 32
    """Numbers of a sample."""
    per_class: Count = 4
    """Samples of each class to learn from."""
    tests: Count = 1024
    """Samples to test on."""
    noise: Positive = 0.5
    """Deviation of a sample from its center; centers deviate by 1 from each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionData(CommonData):
    """What a function of yours returns."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Literal["function"]
    """Which data: what a function returns, called as function(**options)."""
    function: Function
    """`module:function`; looked for in the folder the job is started in, too."""
    options: Options = field(default_factory=dict)
    """What the function is called with."""
    task: Literal["classification", "regression", "language"] = "classification"
    """Whether it returns (x, y, test_x, test_y), or rows of words (train, test)."""
    context: Count = 64
    """Words of a window, for task = "language"."""


Data: TypeAlias = Annotated[
    DigitsData
    | MnistData
    | WineData
    | NpzData
    | NpyData
    | CsvData
    | TopicsData
    | TextData
    | TokensData
    | ClustersData
    | FunctionData,
    Field(discriminator="name"),
]
