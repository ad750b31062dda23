"""The [model] table: one dataclass per kind of model.

Keys and defaults only. `train/models/` builds what they describe.
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import ConfigDict, Field

from parallel_params.train.config.limits import STRICT, Count, Function, Options


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
class FunctionModel:
    """What a function of yours builds."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    kind: Literal["function"]
    """Which model: function(sample_shape, num_outputs, **options), a cell."""
    function: Function
    """`module:function`; looked for in the folder the job is started in, too."""
    options: Options = field(default_factory=dict)
    """What the function is called with besides."""


Model: TypeAlias = Annotated[MlpModel | FunctionModel, Field(discriminator="kind")]
