"""Convolutions over pictures, then dense layers."""

import itertools

from parallel_params import nn, ops
from parallel_params.errors import ConfigError
from parallel_params.tensor.tensor import Tensor
from parallel_params.train.config.models import ConvnetModel
from parallel_params.train.data.dataset import Interface
from parallel_params.train.models.mlp import FIRST_WEIGHTS


class Picture(nn.Cell):
    """Samples as pictures: [num, channels, height, width].

    Args:
        shape: channels, height and width.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = shape

    def construct(self, x: Tensor) -> Tensor:
        """Return [num, *shape] for x of [num, ...] with as many elements."""
        return ops.reshape(x, (x.shape[0], *self.shape))


def build_convnet(model: ConvnetModel, interface: Interface) -> nn.SequentialCell:
    """Build convolutions, a pool behind each, and dense layers.

    Raises:
        ConfigError: samples are no pictures, or too small to be halved so often.
    """
    channels, height, width = _shape(interface)
    law = FIRST_WEIGHTS[model.activation]
    cells: list[nn.Cell] = [Picture((channels, height, width))]
    for before, behind in itertools.pairwise((channels, *model.channels)):
        cells += _convolution(model, before, behind)
        height, width = height // 2, width // 2
    if not height * width:
        problem = (
            f"model.channels: pictures of {_shape(interface)[1:]} cannot be halved "
            f"{len(model.channels)} times; use fewer convolutions"
        )
        raise ConfigError([problem])
    cells.append(nn.Flatten())
    if model.dropout:
        cells.append(nn.Dropout(p=model.dropout))
    widths = (model.channels[-1] * height * width, *model.hidden)
    cells += [
        nn.Dense(fan_in, fan_out, law, "zeros", activation=model.activation)
        for fan_in, fan_out in itertools.pairwise(widths)
    ]
    return nn.SequentialCell(
        [*cells, nn.Dense(widths[-1], interface.num_outputs, law, "zeros")]
    )


def _convolution(model: ConvnetModel, before: int, behind: int) -> list[nn.Cell]:
    """Build a convolution, what stands behind it, and a pool that halves."""
    law, is_normed = FIRST_WEIGHTS[model.activation], model.norm == "batch"
    cells: list[nn.Cell] = [
        nn.Conv2d(
            before,
            behind,
            model.kernel,
            has_bias=not is_normed,  # the norm has one
            weight_init=law,
            bias_init="zeros",
        )
    ]
    if is_normed:
        cells.append(nn.BatchNorm2d(behind))
    return [*cells, _activation(model.activation), nn.MaxPool2d(2, stride=2)]


def _activation(name: str) -> nn.Cell:
    cell = nn.get_activation(name)
    assert cell is not None, "a job names one"
    return cell


def describe_convnet(model: ConvnetModel, interface: Interface) -> str:
    """Write it in a word and its sizes: convnet 1x28x28, 16-32 channels, 64-10."""
    shape = "x".join(str(length) for length in _shape(interface))
    channels = "-".join(str(number) for number in model.channels)
    widths = "-".join(str(n) for n in (*model.hidden, interface.num_outputs))
    return f"convnet {shape}, {channels} channels, {widths}"


def _shape(interface: Interface) -> tuple[int, int, int]:
    """Find channels, height and width of a sample.

    Raises:
        ConfigError: it is no picture.
    """
    if interface.picture is not None:
        return 1, *interface.picture
    shape = interface.sample_shape
    if interface.is_text or len(shape) not in (2, 3):
        what = "words" if interface.is_text else f"of shape {shape}"
        problem = (
            f'model.kind: "convnet" takes pictures, [height, width] or [channels, '
            f"height, width], and the samples are {what}"
        )
        raise ConfigError([problem])
    return (1, *shape) if len(shape) == 2 else shape  # type: ignore[return-value]  # 3
