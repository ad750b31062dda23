"""What a convolution refuses: shapes, groups and element types that do not fit."""

from parallel_params.tensor.tensor import Tensor

_DIMS = {1: ("N", "C", "L"), 2: ("N", "C", "H", "W")}


def check_conv(
    operator: str,
    num_dims: int,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    groups: int,
) -> None:
    """Raise ValueError or TypeError if the operands of a convolution do not fit."""
    names = ", ".join(_DIMS[num_dims])
    xs, ws = x.shape, weight.shape
    if len(xs) != num_dims + 2 or len(ws) != num_dims + 2:
        raise ValueError(
            f"{operator}: input is [{names}] and weight [O, C / groups, "
            f"{', '.join('K' + name for name in _DIMS[num_dims][2:])}], but their "
            f"shapes are {xs} and {ws}"
        )
    if type(groups) is not int or groups < 1:
        raise ValueError(f"{operator}: groups is an int of at least 1, not {groups!r}")
    if xs[1] % groups or ws[0] % groups:
        raise ValueError(
            f"{operator}: groups={groups} must divide the channels of the input (C = "
            f"{xs[1]}) and of the output (O = {ws[0]})"
        )
    if xs[1] // groups != ws[1]:
        raise ValueError(
            f"{operator}: input of shape {xs} has C = {xs[1]} channels (dim 1), "
            f"{xs[1] // groups} in each of {groups} groups; weight of shape {ws} takes "
            f"{ws[1]} (dim 1)"
        )
    if 0 in ws:
        raise ValueError(f"{operator}: weight of shape {ws} has no elements")
    _check_rest(operator, x, weight, bias)


def _check_rest(operator: str, x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    ws = weight.shape
    if bias is not None and bias.shape != ws[:1]:
        raise ValueError(
            f"{operator}: bias of shape {bias.shape} does not fit weight of shape "
            f"{ws}: it must be {ws[:1]}"
        )
    types = {t._array.dtype for t in (x, weight, bias) if t is not None}
    if len(types) > 1 or not x.dtype.is_float:
        found = ", ".join(sorted(dtype.name for dtype in types))
        raise TypeError(
            f"{operator}: input, weight and bias have one floating-point element type, "
            f"not {found}; convert with astype()"
        )
