"""What may be set on a parameter: defaults, checks, the answer to a misspelt name.

The values of a parameter are the matter of `nn/parameter.py`; what the parallel flags
mean is decided in `plan/plan.py` alone.
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

DEFAULT_NAME = "Parameter"
MAX_NAME_LENGTH = 1024
# `require_grad` is at 0.96 from `requires_grad`, `naem` at 0.75 from `name`.
_NEAR = 0.8

Agree: TypeAlias = Callable[[Exception | None, str], None]
"""Raises on all ranks of a manager what one of them passes, or if their texts differ.

Collective: the ranks of the manager."""


def checked_name(value: object) -> str:
    """Return `value` as the name of a parameter.

    None and blanks stand for the default name; outer blanks are dropped.

    Raises:
        ValueError: it is no text, or longer than 1024 characters.
    """
    if value is None:
        return DEFAULT_NAME
    if not isinstance(value, str):
        raise ValueError(
            f"the name of a parameter is a str or None, not {type(value).__name__}"
        )
    name = value.strip()
    if len(name) > MAX_NAME_LENGTH:
        raise ValueError(
            f"the name of a parameter has at most {MAX_NAME_LENGTH} characters, "
            f"not {len(name)}: {name[:40]!r}..."
        )
    return name or DEFAULT_NAME


def checked_bool(setting: str, value: object) -> bool:
    """Return `value` if it is True or False; NumPy's bools and 0 or 1 are refused."""
    if not isinstance(value, bool):
        raise TypeError(f"{setting} is True or False, not {value!r}")
    return value


def _checked_fusion(setting: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{setting} is an int, not {value!r}")
    if value < 0:
        raise ValueError(f"{setting} is at least 0 (0: never fuse), not {value}")
    return value


def _checked_dim(setting: str, value: object) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise TypeError(f"{setting} is an int or None, not {value!r}")
    if value is not None and value < 0:
        raise ValueError(f"{setting} is at least 0, not {value}")
    return value


def _checked_key(setting: str, value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{setting} is an int, not {value!r}")
    return int(value)


def _checked_list(setting: str, value: object) -> list[object]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"{setting} is a list or tuple, not {value!r}")
    return list(value)


# Setting -> what turns a given value into the stored one, or raises.
CHECKS: dict[str, Callable[[str, object], object]] = {
    "layerwise_parallel": checked_bool,
    "parallel_optimizer": checked_bool,
    "parallel_optimizer_comm_recompute": checked_bool,
    "cache_enable": checked_bool,
    "comm_fusion": _checked_fusion,
    "slice_dim": _checked_dim,
    "cache_shape": _checked_list,
    "key": _checked_key,
}


# What a plan is computed from: a manager has to know when it changes.
COMPILED = frozenset(
    {
        "requires_grad",
        "layerwise_parallel",
        "parallel_optimizer",
        "comm_fusion",
        "slice_dim",
    }
)

# What a clone takes over besides the name and `requires_grad`.
CLONED = (
    "layerwise_parallel",
    "parallel_optimizer",
    "comm_fusion",
    "slice_dim",
    "parallel_optimizer_comm_recompute",
    "cache_enable",
    "cache_shape",
    "key",
    "unique",
    "init",
)

# What a manager lends a parameter: it ends with the manager, and no copy has it.
LENT = ("_fetch", "_outline", "_write", "_on_edit", "_agree")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParamInfo:
    """A record of a parameter's settings, as they were when it was asked for."""

    name: str
    requires_grad: bool
    layerwise_parallel: bool
    parallel_optimizer: bool
    comm_fusion: int
    parallel_optimizer_comm_recompute: bool
    cache_enable: bool
    cache_shape: tuple[int, ...]
    key: int
    parameter_shape: tuple[int, ...]


class Settings:
    """The side of a parameter that has no numbers: its name, flags and records."""

    layerwise_parallel: bool = False
    parallel_optimizer: bool = True
    comm_fusion: int = 1
    # Of which dim of one whole tensor the ranks have slices, if they have.
    slice_dim: int | None = None
    parallel_optimizer_comm_recompute: bool = False
    cache_enable: bool = False
    key: int = -1
    cache_shape: list[int]
    # Unchecked, as in MindSpore.
    unique: object = False
    sliced: object = False
    is_init: object = False
    init: object = None
    init_flag: object = False
    requires_aggr: object = True
    is_in_parallel: object = False
    is_default_input_init: object = False

    _name: str = DEFAULT_NAME
    _is_bound: bool = False  # does a manager hold the storage?
    # Of a parameter with a manager: tells it that a flag was set.
    _on_edit: "Callable[[], None] | None" = None
    _agree: "Agree | None" = None
    _requires_grad: bool = True

    def __init__(self, name: str | None) -> None:
        self._pipeline_stage_list: list[int] = []
        self.cache_shape = []
        self.name = name

    def __setattr__(self, name: str, value: object) -> None:
        if name[0] == "_":  # the tape sets `_node` at every step
            object.__setattr__(self, name, value)
            return
        check = CHECKS.get(name)
        if check is not None:
            value = check(name, value)
        elif not hasattr(type(self), name) and name not in self.__dict__:
            self._refuse_near_miss(name)
        object.__setattr__(self, name, value)
        if name in COMPILED and self._on_edit is not None:
            self._on_edit()

    def _refuse_near_miss(self, name: str) -> None:
        """Raise AttributeError if `name` looks like a misspelt attribute."""
        if name.startswith("_"):
            return
        near = difflib.get_close_matches(name, _attributes(type(self)), 1, _NEAR)
        if near:
            raise AttributeError(
                f"a Parameter has no attribute {name!r}; did you mean {near[0]!r}? (An "
                f"attribute of your own needs a name less like that one.)"
            )

    @property
    def name(self) -> str:
        """The name: by default `Parameter` until a cell gives it one."""
        return self._name

    @name.setter
    def name(self, value: str | None) -> None:
        self._name = checked_name(value)

    @property
    def inited_param(self) -> None:
        """Always None: a parameter becomes initialised in place."""
        return

    def add_pipeline_stage(self, stage: int) -> None:
        """Note that pipeline stage number `stage` uses the parameter."""
        if type(stage) is not int or stage < 0:
            raise TypeError(f"a stage is an int of at least 0, not {stage!r}")
        self._pipeline_stage_list.append(stage)


def _attributes(kind: type) -> tuple[str, ...]:
    """Return the public attributes of a class that are no methods."""
    return tuple(
        name
        for name in ["cache_shape", *dir(kind)]
        if not name.startswith("_") and not callable(getattr(kind, name, None))
    )


def agreement_of(parameter: Settings) -> Agree | None:
    """Return how the ranks agree that share a parameter; None without a manager."""
    return parameter._agree
