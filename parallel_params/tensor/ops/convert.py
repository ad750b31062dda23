"""Constants and conversions: astype, stop_gradient."""

from parallel_params.tensor.dtype import DType
from parallel_params.tensor.ops.apply import Operand, as_operand, cast
from parallel_params.tensor.tensor import Tensor


def astype(x: Operand, dtype: DType) -> Tensor:
    """Return the tensor with elements of `dtype`; the gradient comes back as it was.

    Raises:
        TypeError: `dtype` is not one of the package's element types.
    """
    if not isinstance(dtype, DType):
        raise TypeError(
            f"astype: dtype must be one of parallel_params' types, such as "
            f"parallel_params.float32, not {dtype!r}"
        )
    return cast(as_operand(x, "astype"), dtype.numpy)


def stop_gradient(x: Operand) -> Tensor:
    """Return the same values as a constant of every derivative."""
    return Tensor.wrap(as_operand(x, "stop_gradient")._array)
