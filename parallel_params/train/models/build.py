"""From a [model] table to a cell.

All ranks build the same, or their slices of the same, along an axis of the mesh.
"""

from parallel_params import nn
from parallel_params.errors import ConfigError
from parallel_params.nn.parallel import Axis
from parallel_params.tensor import random
from parallel_params.train.config.models import (
    ClassesModel,
    ConvnetModel,
    FunctionModel,
    GptModel,
    MlpModel,
    Model,
)
from parallel_params.train.data.dataset import Interface
from parallel_params.train.functions import find_function
from parallel_params.train.models.classes import build_classes, describe_classes
from parallel_params.train.models.convnet import build_convnet, describe_convnet
from parallel_params.train.models.gpt_build import build_gpt, describe_gpt
from parallel_params.train.models.mlp import build_mlp, describe_mlp


def build_model(
    model: Model, interface: Interface, *, seed: int, axis: Axis | None = None
) -> nn.Cell:
    """Build the model of a job.

    Args:
        model: the job's [model] table.
        interface: what the model is given and has to give back.
        seed: decides the first weights, and nothing else does.
        axis: along which the model is cut, on every rank its own; None for a whole one.

    Raises:
        ConfigError: a model that cannot take these samples, or no cell was made.
        PlanError: the axis does not divide what is cut along it.
    """
    random.set_seed(seed)
    if isinstance(model, FunctionModel):
        return _build_own(model, interface, axis)
    if isinstance(model, GptModel):
        return build_gpt(model, interface, axis)
    if isinstance(model, ClassesModel):
        assert axis is not None, "a mesh of such a job has an axis of classes"
        return build_classes(model, interface, axis)
    if isinstance(model, ConvnetModel):
        return build_convnet(model, interface)
    return build_mlp(model, interface)


def _build_own(
    model: FunctionModel, interface: Interface, axis: Axis | None
) -> nn.Cell:
    options = model.options if axis is None else {**model.options, "axis": axis}
    made = find_function(model.function, "model.function")(
        interface.sample_shape, interface.num_outputs, **options
    )
    if not isinstance(made, nn.Cell):
        problem = (
            f"model.function: {model.function} returned {type(made).__name__}; "
            "expected a Cell"
        )
        raise ConfigError([problem])
    return made


def describe_model(model: Model, interface: Interface) -> str:
    """Write a model in a word and its sizes: mlp 64-128-10."""
    if isinstance(model, MlpModel):
        return describe_mlp(model, interface)
    if isinstance(model, ConvnetModel):
        return describe_convnet(model, interface)
    if isinstance(model, GptModel):
        return describe_gpt(model, interface)
    if isinstance(model, ClassesModel):
        return describe_classes(model, interface)
    return model.function
