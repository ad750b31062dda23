"""Group norm: groups of one sample's channels, each brought to mean 0, variance 1."""

from parallel_params.tensor.ops.apply import Operand, as_operand, check_type
from parallel_params.tensor.ops.norm import layer_norm
from parallel_params.tensor.tensor import Tensor


def group_norm(
    input: Operand,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Return (input - mean) / sqrt(variance + eps) * weight + bias, group by group.

    Mean and variance are those of a group of one sample's channels.

    Args:
        input: [N, C, ...].
        num_groups: how many groups of equally many channels; 1 for all channels in one,
            C for each on its own (instance norm).
        weight: [C], of the input's element type; None for ones.
        bias: likewise; None for zeros.
        eps: added to the variance.

    Raises:
        TypeError: the elements are not floating point, or of several types.
        ValueError: the groups do not divide the channels, shapes do not fit, or there
            is nothing to take a mean of.

    Source: Wu and He, Group Normalization (2018), section 3.
    """
    x = as_operand(input, "group_norm")
    shape = x.shape
    if x.ndim < 2:
        raise ValueError(f"group_norm takes [N, C, ...], not shape {shape}")
    channels = shape[1]
    if num_groups < 1 or channels % num_groups:
        divisors = [n for n in range(1, channels + 1) if not channels % n]
        raise ValueError(
            f"group_norm: {num_groups} groups do not divide the C = {channels} "
            f"channels (dim 1) of shape {shape}; {', '.join(map(str, divisors))} do"
        )
    if not x.size:
        raise ValueError(f"group_norm: shape {shape} has nothing to take a mean of")
    _check_factors(x, weight, bias)
    rows = x.reshape(shape[0] * num_groups, -1)
    out = layer_norm(rows, rows.shape[1], None, None, eps).reshape(shape)
    per_channel = (channels, *(1,) * (x.ndim - 2))
    if weight is not None:
        out = out * weight.reshape(per_channel)
    return out if bias is None else out + bias.reshape(per_channel)


def _check_factors(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> None:
    shape, channels = x.shape, x.shape[1]
    for name, factor in (("weight", weight), ("bias", bias)):
        if factor is not None and factor.shape != (channels,):
            raise ValueError(
                f"group_norm: {name} of shape {factor.shape} does not fit the C = "
                f"{channels} channels (dim 1) of shape {shape}"
            )
        if factor is not None:
            check_type("group_norm", x, name, factor)
