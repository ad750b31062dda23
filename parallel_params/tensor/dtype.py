"""Element types: their MindSpore names, their NumPy twins, and how two of them mix.

Promotion follows MindSpore, which differs from NumPy where an integer meets a float:
the result is that float, whatever the widths. No arrays here, only types.
"""

from functools import cache

import numpy as np

_NAMES = {
    "bool": "Bool",
    "int8": "Int8",
    "int16": "Int16",
    "int32": "Int32",
    "int64": "Int64",
    "uint8": "UInt8",
    "uint16": "UInt16",
    "uint32": "UInt32",
    "uint64": "UInt64",
    "float16": "Float16",
    "bfloat16": "BFloat16",
    "float32": "Float32",
    "float64": "Float64",
    "complex64": "Complex64",
    "complex128": "Complex128",
    "str": "String",
}


class DType:
    """One element type; compare with `is` or `==`, print for MindSpore's spelling."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def numpy(self) -> np.dtype[np.generic]:
        """The NumPy dtype. bfloat16 imports `ml_dtypes` on first use."""
        return _numpy_of(self.name)

    @property
    def is_float(self) -> bool:
        """True for float16, bfloat16, float32 and float64."""
        return self.name in ("float16", "bfloat16", "float32", "float64")

    def __str__(self) -> str:
        return _NAMES[self.name]

    def __repr__(self) -> str:
        return f"parallel_params.{'bool_' if self.name == 'bool' else self.name}"

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (dtype_named, (self.name,))


@cache
def _numpy_of(name: str) -> np.dtype[np.generic]:
    if name == "bfloat16":
        import ml_dtypes

        found: np.dtype[np.generic] = np.dtype(ml_dtypes.bfloat16)
        return found
    return np.dtype(name)


ALL = {name: DType(name) for name in _NAMES}

bool_ = ALL["bool"]
int8, int16, int32, int64 = (ALL[f"int{bits}"] for bits in (8, 16, 32, 64))
uint8, uint16, uint32, uint64 = (ALL[f"uint{bits}"] for bits in (8, 16, 32, 64))
float16, float32, float64 = (ALL[f"float{bits}"] for bits in (16, 32, 64))
bfloat16 = ALL["bfloat16"]
complex64, complex128 = ALL["complex64"], ALL["complex128"]
string = ALL["str"]


def dtype_named(name: str) -> DType:
    """Return the element type called `name`, as NumPy spells it."""
    return ALL[name]


@cache
def dtype_of(numpy_dtype: np.dtype[np.generic]) -> DType:
    """Return the element type of a NumPy dtype.

    Raises:
        TypeError: no tensor can hold it (big-endian, structured, object, dates).
    """
    if numpy_dtype.kind in "US":
        return string
    found = ALL.get(numpy_dtype.name)
    if found is None or not numpy_dtype.isnative:
        raise TypeError(
            f"a tensor cannot hold NumPy's {numpy_dtype!r}; "
            f"convert the array to one of {', '.join(ALL)} in native byte order first"
        )
    return found


@cache
def promote(
    left: np.dtype[np.generic], right: np.dtype[np.generic]
) -> np.dtype[np.generic]:
    """Return the dtype of an operation between two tensors (0-d tensors are not weak).

    Source: MindSpore's implicit conversion, observed: int64 with float16 is float16.
    """
    if left == right:
        return left
    low, high = (left, right) if _rank(left) <= _rank(right) else (right, left)
    if _rank(low) < _rank(high) and _rank(high) >= 2:
        return high
    if {left.name, right.name} == {"float16", "bfloat16"}:
        return np.dtype(np.float32)
    return np.promote_types(left, right)


@cache
def promote_scalar(tensor: np.dtype[np.generic], scalar: type) -> np.dtype[np.generic]:
    """Return the dtype of an operation with a Python scalar, which is weak.

    float16 with 2.5 stays float16, int8 with 2 stays int8, any int with 2.5 is float32.
    """
    kind = {bool: 0, int: 1, float: 2}[scalar]
    if kind <= _rank(tensor):
        return tensor
    return np.dtype(np.int64) if kind == 1 else np.dtype(np.float32)


def _rank(dtype: np.dtype[np.generic]) -> int:
    """Order of the kinds: bool 0, integers 1, floats 2, complex 3."""
    if dtype.kind == "b":
        return 0
    if dtype.kind in "iu":
        return 1
    return 3 if dtype.kind == "c" else 2
