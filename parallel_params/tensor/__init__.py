"""The tensor core: NumPy arrays that remember how they were computed."""

from parallel_params.tensor import methods as _methods  # noqa: F401 - hangs them on Tensor
from parallel_params.tensor.dtype import (
    DType,
    bfloat16,
    bool_,
    complex64,
    complex128,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    string,
    uint8,
    uint16,
    uint32,
    uint64,
)
from parallel_params.tensor.frame import Frame
from parallel_params.tensor.grad import GradOperation, get_grad, grad, value_and_grad
from parallel_params.tensor.tape import pause as no_grad
from parallel_params.tensor.tensor import Tensor

__all__ = [
    "Tensor",
    "DType",
    "bool_",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "complex64",
    "complex128",
    "string",
    "value_and_grad",
    "grad",
    "get_grad",
    "GradOperation",
    "no_grad",
    "Frame",
]
