"""Which loops compute: NumPy's, or those that the extra `fast` compiles.

A `Kernel` is one function in two forms, called like one. The choice is the process's,
as the number of BLAS threads is: threads of one process share it. It is made before
training starts; a manager refuses to go on if it changes, because another set may give
other bits.

Numba is imported when `fast` is chosen, and only then.
"""

import importlib
import importlib.util
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Generic, Literal, ParamSpec, TypeAlias, TypeVar, cast, get_args

from parallel_params.errors import KernelsUnavailable

SetName: TypeAlias = Literal["numpy", "fast"]
Choice: TypeAlias = Literal["numpy", "fast", "auto"]

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelSet:
    """The set in use.

    Attributes:
        name: "numpy" or "fast".
        compiler: name and version of what compiled it; empty for NumPy's own loops.
        num_compiled: functions that had to be compiled when it was chosen.
        num_cached: functions that were found compiled on disk.
        seconds: that took, imports of the compiler included.
        not_kept: why the next process compiles again; empty if it need not.
    """

    name: SetName = "numpy"
    compiler: str = ""
    num_compiled: int = 0
    num_cached: int = 0
    seconds: float = 0.0
    not_kept: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.compiler})" if self.compiler else self.name


class Kernel(Generic[P, R]):
    """One function in two forms, called as it was.

    Attributes:
        run: the form of the chosen set. Who calls it in every small step calls this:
            half a microsecond less.
        numpy: the form in NumPy, which takes every element type.
        fast_module: where the compiled form lies, under the same name.
    """

    __slots__ = ("fast_module", "numpy", "run")

    def __init__(self, function: Callable[P, R], fast_module: str) -> None:
        self.numpy = self.run = function
        self.fast_module = fast_module

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the form of the chosen set."""
        return self.run(*args, **kwargs)

    def choose(self, name: SetName) -> None:
        """Take the form of this set from now on."""
        self.run = self.numpy
        if name == "fast":
            module = importlib.import_module(self.fast_module)
            self.run = cast("Callable[P, R]", getattr(module, self.numpy.__name__))


class _Process:
    """The one choice of this process, and all that follows it."""

    def __init__(self) -> None:
        self.kernels: list[Kernel[..., Any]] = []
        self.lock = threading.RLock()
        self.chosen = KernelSet()


_process = _Process()


def kernel(*, fast: str) -> Callable[[Callable[P, R]], Kernel[P, R]]:
    """Make a function the NumPy form of a kernel.

    Args:
        fast: module with the compiled form, a function of the same name that takes the
            same arguments and hands what it does not compute to the NumPy form.
    """

    def wrap(function: Callable[P, R]) -> Kernel[P, R]:
        made = Kernel(function, fast)
        made.choose(_process.chosen.name)
        _process.kernels.append(made)
        return made

    return wrap


def missing_compiler() -> KernelsUnavailable | None:
    """Return the error that "fast" would be here, or None; loads no compiler."""
    if importlib.util.find_spec("numba") is not None:
        return None
    return KernelsUnavailable(
        "the fast kernels need Numba, which is not installed here: "
        "pip install 'parallel-params[fast]', or choose the kernels \"numpy\""
    )


def kernel_set() -> KernelSet:
    """Return the set in use."""
    return _process.chosen


def set_kernels(name: Choice) -> KernelSet:
    """Choose the loops that compute, for this process and before training.

    "numpy" needs nothing and is the default. "fast" compiles fused loops with Numba, or
    loads them from its cache on disk: elementwise ones and the optimizers' have the
    same bits as NumPy's, the others differ in the last digits, see `docs/kernels.md`.
    "auto" is "fast" where Numba is installed. All ranks of a world need the same set;
    a manager compares them.

    Args:
        name: "numpy", "fast" or "auto".

    Returns:
        What was chosen, and what that cost.

    Raises:
        KernelsUnavailable: "fast" without Numba; nothing has changed.
        ValueError: there is no set of that name.
    """
    if name not in get_args(Choice):
        raise ValueError(
            f"no set of kernels is called {name!r}; there are "
            f"{', '.join(get_args(Choice))}"
        )
    missing = None if name == "numpy" else missing_compiler()
    if name == "fast" and missing is not None:
        raise missing
    is_fast = name != "numpy" and missing is None
    with _process.lock:
        if is_fast != (_process.chosen.name == "fast"):
            _process.chosen = _load_fast() if is_fast else KernelSet()
            for each in _process.kernels:
                each.choose(_process.chosen.name)
        return _process.chosen


def _load_fast() -> KernelSet:
    start = time.perf_counter()
    from parallel_params.tensor.fast import compiler

    for name in {each.fast_module for each in _process.kernels}:
        importlib.import_module(name)
    num_compiled, num_cached, not_kept = compiler.prepare()
    return KernelSet(
        name="fast",
        compiler=f"numba {metadata.version('numba')}",
        num_compiled=num_compiled,
        num_cached=num_cached,
        seconds=time.perf_counter() - start,
        not_kept=not_kept,
    )
