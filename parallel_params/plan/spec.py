"""What a plan has to know about one parameter: names, shape, dtype, flags, structure.

Describes; it does not decide what the flags mean: `plan.py` does, in one function.
"""

import math
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from typing import Literal, get_args

from parallel_params.errors import PlanError
from parallel_params.plan.number_checks import check_whole_number
from parallel_params.plan.text import did_you_mean

Structure = Literal["element", "tensor_scalar", "row", "matrix"]
"""Where an optimizer rule lets a parameter be cut: `element` and `tensor_scalar`
anywhere (the latter needs sums over the whole parameter), `row` between rows of dim 0
(and may need such sums), `matrix` nowhere."""

ITEM_BYTES = {
    "bool": 1,
    "int8": 1,
    "int16": 2,
    "int32": 4,
    "int64": 8,
    "uint8": 1,
    "uint16": 2,
    "uint32": 4,
    "uint64": 8,
    "bfloat16": 2,
    "float16": 2,
    "float32": 4,
    "float64": 8,
}
"""Bytes per element of every dtype a parameter may have."""

TRAINABLE_DTYPES = frozenset({"bfloat16", "float16", "float32", "float64"})

MAX_NAME_LENGTH = 1024

MASTER_WEIGHT = "master_weight"
"""The state slot of a 16-bit parameter's weight in float32, which the rule moves."""

_TUPLES = ("state_slots", "row_slots", "column_slots", "rounds")
_STRUCTURES_WITH: dict[str, tuple[Structure, ...]] = {
    "row_slots": ("row",),
    "column_slots": ("row",),
    "rounds": ("tensor_scalar", "row"),
}


@dataclass(frozen=True, slots=True)
class ParamSpec:
    """One parameter as a plan sees it; the flags mean what DESIGN's table says.

    Attributes:
        name: Its name in the model, unique among all names and aliases.
        shape: Of the tensor one rank computes with; `()` is a scalar.
        dtype: NumPy's name, or `bfloat16`.
        requires_grad: Whether it is trained.
        layerwise_parallel: Whether it differs along the mesh's layerwise axis.
        slice_dim: If what the ranks along that axis have are equal slices of one
            tensor: the dim they are cut along. Nothing moves because of it; a
            checkpoint can be cut anew for another number of slices.
        parallel_optimizer: Whether its optimizer state may be cut.
        comm_fusion: Parameters of one positive number may travel together; 0 travels
            alone.
        structure: Where its optimizer rule lets it be cut.
        state_slots: Names of its per-element optimizer states.
        row_slots: Names of its optimizer states of one element per row of dim 0.
        column_slots: Names of its optimizer states of one element per element of a row.
        rounds: What its rule sums over the whole parameter in a step, round by round:
            the numbers per round.
        optimizer: Which of several optimizers moves it.
        is_statistic: Whether it follows what the grains observe, without a gradient.
        aliases: Further names of the same storage (tied weights).

    Raises:
        PlanError: naming the parameter, the field, what was expected and found.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    _: KW_ONLY
    requires_grad: bool = True
    layerwise_parallel: bool = False
    parallel_optimizer: bool = True
    comm_fusion: int = 1
    structure: Structure = "element"
    state_slots: tuple[str, ...] = ()
    row_slots: tuple[str, ...] = ()
    column_slots: tuple[str, ...] = ()
    rounds: tuple[int, ...] = ()
    optimizer: int = 0
    is_statistic: bool = False
    aliases: tuple[str, ...] = ()
    slice_dim: int | None = None

    def __post_init__(self) -> None:
        for field in (*_TUPLES, "shape", "aliases"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        for name in (self.name, *self.aliases, *self.slots):
            _check_name(name)
        if len(set(self.names)) != len(self.names):
            raise PlanError(f"parameter {self.name!r}: its aliases repeat a name")
        self._check_whole_numbers("shape", self.shape, least=0)
        self._check_whole_numbers("rounds", self.rounds, least=1)
        for field in ("comm_fusion", "optimizer"):
            self._check_whole_numbers(field, [getattr(self, field)], least=0)
        if self.slice_dim is not None:
            self._check_whole_numbers("slice_dim", [self.slice_dim], least=0)
            if self.slice_dim >= len(self.shape):
                raise PlanError(
                    f"parameter {self.name!r}: slice_dim {self.slice_dim} is no dim of "
                    f"the shape {self.shape}"
                )
        self._check_choice("dtype", tuple(ITEM_BYTES))
        self._check_choice("structure", get_args(Structure))
        self._check_state()
        if self.is_statistic and self.requires_grad:
            raise PlanError(
                f"parameter {self.name!r}: a statistic is not trained, so "
                "requires_grad must be False"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Its name and its aliases."""
        return (self.name, *self.aliases)

    @property
    def slots(self) -> tuple[str, ...]:
        """The names of all of its optimizer states."""
        return (*self.state_slots, *self.row_slots, *self.column_slots)

    @property
    def numel(self) -> int:
        """Number of elements; 1 for a scalar."""
        return math.prod(self.shape)

    @property
    def row_numel(self) -> int:
        """Elements of one row of dim 0; 1 for scalars and vectors."""
        return math.prod(self.shape[1:])

    @property
    def weight_bytes(self) -> int:
        """Bytes of one whole copy of the weight."""
        return self.numel * ITEM_BYTES[self.dtype]

    def _check_whole_numbers(
        self, field: str, values: Iterable[object], *, least: int
    ) -> None:
        for value in values:
            what = f"parameter {self.name!r}: {field}"
            check_whole_number(value, what, least=least)

    def _check_state(self) -> None:
        """Refuse states and sums that a rule of this structure cannot have."""
        if len(set(self.slots)) != len(self.slots):
            raise PlanError(f"parameter {self.name!r}: state_slots repeat a name")
        if MASTER_WEIGHT in self.slots:
            raise PlanError(
                f"parameter {self.name!r}: the state {MASTER_WEIGHT!r} is kept by the "
                "manager, see policy.master_weights. Call the rule's own another name"
            )
        for field, structures in _STRUCTURES_WITH.items():
            if getattr(self, field) and self.structure not in structures:
                raise PlanError(
                    f"parameter {self.name!r}: {field} are for rules of structure "
                    f"{' or '.join(map(repr, structures))}, not {self.structure!r}"
                )

    def _check_choice(self, field: str, choices: tuple[str, ...]) -> None:
        value = getattr(self, field)
        if value not in choices:
            raise PlanError(
                f"parameter {self.name!r}: unknown {field} {value!r}. "
                + did_you_mean(str(value), choices)
            )


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name or not name.isprintable():
        raise PlanError(f"name {name!r}: expected printable text, such as '0.weight'")
    if len(name) > MAX_NAME_LENGTH:
        raise PlanError(
            f"name {name[:40]!r}...: {len(name)} characters, expected at most "
            f"{MAX_NAME_LENGTH}"
        )
