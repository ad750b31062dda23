"""The array of an `.npy` file, mapped; any other file is refused as what it is."""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from parallel_params.errors import DataError

_START = b"\x93NUMPY"
# Format 3.0 is for names of fields, which arrays of numbers have not.
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_REMEDY = "; write numbers with numpy.save(path, array)"


def map_npy(path: Path) -> NDArray[np.generic]:
    """Map the array of an .npy file without reading it.

    Raises:
        DataError: missing, no .npy, damaged, pickled, or no numbers.
    """
    try:
        problem = _problem_of(path)
        if not problem:
            array: NDArray[np.generic] = np.load(path, mmap_mode="r")
            return array
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such data file") from None
    except IsADirectoryError:
        raise DataError(f"{path}: is a folder; expected an .npy file") from None
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{path}: damaged .npy file: {error}{_REMEDY}") from None
    raise DataError(f"{path}: {problem}{_REMEDY}")


def _problem_of(path: Path) -> str:
    """Return why a file is no array of numbers, or nothing.

    NumPy takes what it does not know for a pickle, and gives advice on how to load it.
    """
    with path.open("rb") as file:
        start = file.read(len(_START))
        if not start:
            return "is empty; expected an .npy file"
        if start.startswith(b"PK"):
            return "an .npz file; expected an .npy file"
        if start != _START:
            return f"begins with {start!r}; expected an .npy file, with {_START!r}"
        file.seek(0)
        version = np.lib.format.read_magic(file)
        if (read := _HEADERS.get(version)) is None:
            return f"an .npy file of format {version}; expected (1, 0) or (2, 0)"
        shape, _, dtype = read(file)
        found = path.stat().st_size - file.tell()
    if dtype.hasobject:
        return (
            f"the array has dtype {dtype}, Python objects, which are never unpickled; "
            "expected numbers"
        )
    if dtype.kind not in "fiu":
        return f"the array has dtype {dtype}; expected numbers"
    if found < (wanted := math.prod(shape) * dtype.itemsize):
        return (
            f"cut short: {dtype} {shape} takes {wanted} bytes behind the header, there "
            f"are {found}"
        )
    return ""
