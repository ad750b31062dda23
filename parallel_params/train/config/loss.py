"""The [loss] table: what is made small. By default what the task of the data asks."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import ConfigDict, Field

from parallel_params.train.config.limits import STRICT, Fraction, Function, Options


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLoss:
    """What the task of the data asks for."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    kind: Literal["task"] = "task"
    """Which loss: cross-entropy for classes and words, mean square for numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SmoothedLoss:
    """Cross-entropy against labels that are not quite sure."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    kind: Literal["cross_entropy"]
    """Which loss: cross-entropy, for classes and words."""
    label_smoothing: Fraction = 0.0
    """Share of the label that is spread evenly over all classes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionLoss:
    """A function of yours."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    kind: Literal["function"]
    """Which loss: function(outputs, answers, **options), a mean over the samples."""
    function: Function
    """`module:function`; looked for in the folder the job is started in, too."""
    options: Options = field(default_factory=dict)
    """What the function is called with besides."""


BY_TASK = TaskLoss()

Loss: TypeAlias = Annotated[
    TaskLoss | SmoothedLoss | FunctionLoss, Field(discriminator="kind")
]
