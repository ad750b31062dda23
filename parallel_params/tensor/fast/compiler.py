"""The door to Numba: how loops are compiled, cached, and prepared for float32.

Only `reductions.py` and `vectors.py` import it as well, for what they say in vectors.

Compiled loops are plain Python over arrays. No operation is reordered, nor contracted
but where `fused` says so: a loop gives the same bits as its source read literally, in
vector registers and in the remainder alike; `tests/tensor/test_fast_kernels.py` cuts
arrays everywhere to see.

Numba keeps what it has compiled beside the module (`__pycache__`), where that cannot be
written in the user's cache folder, and where `NUMBA_CACHE_DIR` says if it is set. If
nothing can be written, every process compiles for itself, and `prepare` says why. What
it keeps is found again as long as the text of this folder and of the loop's own file is
the same.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast

import numba
import numpy as np
from numba import extending
from numba.core.caching import FunctionCache

from parallel_params.tensor.tape import Array

# One element in a loop: which type it has is decided when the loop is compiled.
Element: TypeAlias = Any

F = TypeVar("F", bound=Callable[..., Any])

# "numpy": a division by zero is infinite, which also lets loops be vectorised. Threads
# of a thread world run loops at once, so the interpreter's lock is let go.
_OPTIONS: dict[str, Any] = {"error_model": "numpy", "nogil": True}
# No forms for the interpreter and for C.
_NO_DOORS: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
_prepared: list[tuple[Any, str]] = []
_FLOAT32 = np.dtype(np.float32)
# Why something that was compiled is not kept, the last reason first.
_problems: list[str] = []


class _Cache(FunctionCache):
    """Numba's cache of a function, which looks at more than that function's file.

    Numba does not see when a helper from another file changes, or the options here;
    before 0.68 it knows a file by its time and size only. And it gives up where a full
    disk or a damaged file costs no more than to compile once again.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]  # Numba's
        files = {
            *Path(__file__).parent.glob("*.py"),
            Path(function.__code__.co_filename),
        }
        found = hashlib.sha256()
        for file in sorted(files):
            found.update(file.read_bytes())
        self._sources = found.hexdigest()

    def _index_key(self, sig: object, codegen: object) -> tuple[object, ...]:
        key = super()._index_key(sig, codegen)  # type: ignore[no-untyped-call]
        return (*key, self._sources)

    def load_overload(self, sig: object, target_context: object) -> object:
        """Return what was kept of a signature, or None; what is damaged is dropped."""
        try:
            return super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        except Exception:  # what was pickled and cut short raises anything
            with suppress(OSError):
                self.flush()  # type: ignore[no-untyped-call]
            return None

    def save_overload(self, sig: object, data: object) -> None:
        """Keep what was compiled, or note why not."""
        try:
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]
        except Exception as error:  # the index is read before
            _problems.insert(0, str(error))


def compiled(signature: str) -> Callable[[F], F]:
    """Compile a function of arrays and numbers when it is called, or by `prepare`.

    Args:
        signature: Numba's types of result and arguments, with T for the element type:
            "void(T[::1], T)". Other types than float32 are compiled at first use.
    """

    def wrap(function: F) -> F:
        dispatcher = numba.njit(**_OPTIONS)(function)
        try:
            dispatcher._cache = _Cache(function)
        except (RuntimeError, OSError):  # or there is no file of the source
            _problems.insert(0, "there is no folder that can be written")
        _prepared.append((dispatcher, signature))
        return cast("F", dispatcher)

    return wrap


def inlined(function: F) -> F:
    """Compile a function into each loop that calls it, so that they stay vectorised."""
    return cast("F", numba.njit(inline="always", **_OPTIONS)(function))


def called(function: F) -> F:
    """Compile a function that only loops call, rather than into each: what is long."""
    return cast("F", numba.njit(**_OPTIONS, **_NO_DOORS)(function))


def by_type(
    float32: Callable[[Element], Any], float64: Callable[[Element], Any]
) -> Callable[[Element], Any]:
    """Return a function for loops that is one of two, by the type of its argument."""

    def function(x: Element) -> Any:
        raise AssertionError("only compiled loops call this")

    def choose(x: Element) -> Callable[[Element], Any]:
        return float32 if x == numba.float32 else float64

    extending.overload(function)(choose)
    return function


def by_types(
    float32: Callable[[Element, Element], Element],
    float64: Callable[[Element, Element], Element],
) -> Callable[[Element, Element], Element]:
    """Return the same of two arguments of one type, r and s."""

    def function(r: Element, s: Element) -> Element:
        raise AssertionError("only compiled loops call this")

    def choose(r: Element, s: Element) -> Callable[[Element, Element], Element]:
        return float32 if r == numba.float32 else float64

    extending.overload(function)(choose)
    return function


def _fused(_: object, x: Any, y: Any, z: Any) -> tuple[Any, Callable[..., Any]]:
    def emit(_: object, builder: Any, __: object, values: Any) -> Any:
        return builder.fma(*values)

    return x(x, y, z), emit


# x * y + z, rounded once, of numbers of one type: the same bits everywhere, but slow on
# a processor without an instruction for it.
fused = cast(
    "Callable[[Element, Element, Element], Element]", extending.intrinsic(_fused)
)


def prepare() -> tuple[int, int, str]:
    """Compile for float32 what has not been, or load it from the cache.

    Returns:
        How many functions were compiled, how many were found compiled, and why some
        that were compiled are not kept for the next process; empty if all are.
    """
    cached = 0
    for dispatcher, signature in _prepared:
        before = sum(dispatcher.stats.cache_hits.values())
        dispatcher.compile(re.sub(r"\bT\b", "float32", signature))
        cached += sum(dispatcher.stats.cache_hits.values()) > before
    number = len(_prepared)
    _prepared.clear()
    problem = _problems[0] if _problems else ""
    _problems.clear()
    return number - cached, cached, problem


def fits(arrays: Sequence[Array]) -> bool:
    """Return whether loops take these: all float32 or all float64, in C order.

    Args:
        arrays: at least one.
    """
    dtype = arrays[0].dtype
    if dtype is not _FLOAT32 and (dtype.char not in "fd" or not dtype.isnative):
        return False
    for array in arrays:
        if not array.flags.c_contiguous:
            return False
        if array.dtype is not dtype and array.dtype != dtype:
            return False
    return True


def numbers(dtype: "np.dtype[np.generic]", *values: float) -> Array:
    """Return constants of a loop as one array: cheaper to hand over than numbers."""
    return np.array(values, dtype)
