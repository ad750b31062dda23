"""`Parameter`: a tensor with a name, three flags, and storage that stays where it is.

MindSpore's Parameter is the model; `docs/parameter.md` sets it beside PyTorch's and
says where ours differs. The storage may be a view of an arena that several ranks share,
so nothing here moves it: values are written into it. What the two parallel flags mean
is decided in `plan/plan.py`; what may be set, and how it is checked, in
`nn/settings.py`.
"""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from parallel_params.nn.assigned import start_value
from parallel_params.nn.settings import CLONED, LENT, ParamInfo, checked_bool
from parallel_params.nn.storage import Storage
from parallel_params.tensor import initializer as init_laws
from parallel_params.tensor.initializer import Init, LazyTensor
from parallel_params.tensor.ops.apply import result
from parallel_params.tensor.tape import Array, is_recording
from parallel_params.tensor.tensor import Tensor

if TYPE_CHECKING:
    from typing_extensions import Self

    from parallel_params.tensor.signatures import Operand

_PREFIX = re.compile(r"\w+[0-9a-zA-Z_.]*", re.ASCII)


class Parameter(Storage):
    """A weight of a model.

    Args:
        default_input: the start value, copied: a Tensor, Parameter, ndarray or list
            (its element type is kept), an int (int32) or a float (float32).
        name: by default the cell that registers the parameter names it.
        requires_grad: whether `trainable_params()` lists it.
        layerwise_parallel: whether each rank has a value of its own.
        parallel_optimizer: whether its optimizer state, gradient and weight may be
            sharded.

    Raises:
        TypeError: `default_input` is of another type, or a flag is no bool.
        ValueError: the name is no text or too long; a bool, or an array of several dims
            without elements, is given.
        OverflowError: an int does not fit into int32.
    """

    def __init__(
        self,
        default_input: object,
        name: str | None = None,
        requires_grad: bool = True,
        layerwise_parallel: bool = False,
        parallel_optimizer: bool = True,
    ) -> None:
        if isinstance(default_input, LazyTensor):
            self.init_mode = default_input
            if not init_laws.is_lazy():
                self.init_data()
        else:
            self._array = start_value(default_input)
        super().__init__(name)
        self.layerwise_parallel = layerwise_parallel
        self.parallel_optimizer = parallel_optimizer
        self._node = None
        self.requires_grad = requires_grad

    @classmethod
    def _from_tensor(cls, tensor: Tensor, **settings_: object) -> "Self":
        """Return a parameter over the tensor's own memory."""
        if not isinstance(tensor, Tensor):
            raise TypeError(f"expected a Tensor, not {type(tensor).__name__}")
        parameter = cls(0.0, **settings_)  # type: ignore[arg-type]  # checked there
        parameter._array = tensor._array
        parameter._renew_leaf()
        return parameter

    # ---- attributes

    @property
    def requires_grad(self) -> bool:
        """Whether the parameter is trained; `backward()` accumulates only then."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        checked_bool("requires_grad", value)
        self._check_not_in_frame()
        self._requires_grad = value
        self._renew_leaf()

    def requires_grad_(self, requires_grad: bool = True) -> "Self":
        """Set `requires_grad` and return the parameter (PyTorch's habit)."""
        self.requires_grad = requires_grad
        return self

    @property
    def data(self) -> Tensor:
        """The values as a plain tensor that shares memory; assigning copies into it."""
        return self.detach()

    @data.setter
    def data(self, value: "Tensor | bool | int | float") -> None:
        self.set_data(value)

    @property
    def param_info(self) -> ParamInfo:
        """The settings in one record."""
        return ParamInfo(
            name=self.name,
            requires_grad=self.requires_grad,
            layerwise_parallel=self.layerwise_parallel,
            parallel_optimizer=self.parallel_optimizer,
            comm_fusion=self.comm_fusion,
            parallel_optimizer_comm_recompute=self.parallel_optimizer_comm_recompute,
            cache_enable=self.cache_enable,
            cache_shape=tuple(self.cache_shape),
            key=self.key,
            parameter_shape=self.shape,
        )

    def __str__(self) -> str:
        return (
            f"Parameter (name={self.name}, shape={self.shape}, dtype={self.dtype}, "
            f"requires_grad={self.requires_grad})"
        )

    __repr__ = __str__

    # ---- values

    def __setitem__(self, index: object, value: "Operand") -> None:
        """Write `value` to the elements at `index`; of managed ones as `set_data` does.

        Collective: all ranks of the manager, if there is one, with the same values.
        """
        if self._write is None or is_recording():
            super().__setitem__(index, value)
            return
        changed = Tensor.wrap(self.asnumpy().copy())
        changed[index] = value
        self.set_data(changed)

    def value(self) -> Tensor:
        """Return the values now, as a plain tensor of its own memory; on the tape."""
        return result(self._array.copy(), (self,), _pass_on, _pass_on_higher)

    # ---- copies

    def clone(self, init: Init = "same") -> "Parameter":
        """Return a new parameter of the same name, settings, shape and dtype.

        Args:
            init: "same" for the same values, or what `initializer` takes. Attributes of
                your own are not taken over.

        Raises:
            TypeError: `init` is None or a list.
            ValueError: unknown name, or a law or tensor that does not fit the shape.
        """
        source: Tensor = self
        if not (isinstance(init, str) and init == "same"):
            # No law can fill, or fail to fill, what has no elements.
            shape = self.shape if self.size else 1
            source = init_laws.initializer(init, shape, self.dtype)
            if source.dtype != self.dtype:
                source = Tensor(source, self.dtype)
        if not self.size:
            source = self
        twin = Parameter(source, self.name, self.requires_grad)
        for setting in CLONED:
            setattr(twin, setting, getattr(self, setting))
        return twin

    def copy(self) -> "Parameter":
        """Return `clone()`."""
        return self.clone()

    def __copy__(self) -> "Self":
        twin = _restored(type(self), self._array.copy(), _state(self))
        assert isinstance(twin, type(self))
        return twin

    def __reduce__(self) -> "tuple[object, tuple[object, ...]]":
        return (_restored, (type(self), self._array, _state(self)))


class ParameterTuple(tuple[Parameter, ...]):
    """A tuple of parameters; on a cell its members are registered.

    Args:
        iterable: of parameters. The same one may occur twice.

    Raises:
        TypeError: it is not iterable, or an element is no Parameter.
        ValueError: two different parameters have one name.
    """

    __slots__ = ()

    def __new__(cls, iterable: Iterable[Parameter]) -> "Self":
        """Check the members; see the class."""
        if isinstance(iterable, Parameter | dict | str):
            raise TypeError(
                f"a ParameterTuple is made of a list of Parameters, not of one "
                f"{type(iterable).__name__}"
            )
        members = tuple(iterable)
        known: dict[str, tuple[int, Parameter]] = {}
        for place, member in enumerate(members):
            if not isinstance(member, Parameter):
                raise TypeError(
                    f"element {place} of a ParameterTuple is no Parameter but a "
                    f"{type(member).__name__}"
                )
            first, other = known.setdefault(member.name, (place, member))
            if other is not member:
                raise ValueError(
                    f"element {place} of this ParameterTuple is another Parameter than "
                    f"element {first}, but its name {member.name!r} already exists; "
                    "give each a name= of its own (check_names() of the cell that has "
                    "them tells their attributes)"
                )
        return super().__new__(cls, members)

    def clone(self, prefix: str, init: Init = "same") -> "ParameterTuple":
        """Return clones of the members, called `prefix.name`.

        Args:
            prefix: ASCII letters, digits, `_` and `.`, not starting with `.`.
            init: as in `Parameter.clone`.

        Raises:
            TypeError: the prefix is no text.
            ValueError: the prefix has other characters; one parameter occurs twice.
        """
        if not isinstance(prefix, str):
            raise TypeError(f"a prefix is a str, not {type(prefix).__name__}")
        if not _PREFIX.fullmatch(prefix):
            raise ValueError(
                f"a prefix has ASCII letters, digits, '_' and '.', and does not start "
                f"with '.'; got {prefix!r}"
            )
        clones = []
        for member in self:
            clone = member.clone(init)
            clone.name = f"{prefix}.{member.name}"
            clones.append(clone)
        return ParameterTuple(clones)


def is_broadcast(parameter: Parameter) -> bool:
    """Return whether all ranks start from one value of the parameter."""
    return not parameter.layerwise_parallel


def _state(parameter: Parameter) -> dict[str, object]:
    """Return settings and user attributes, after the values have been made."""
    assert parameter._array is not None, "looking makes the values of a lazy parameter"
    return {k: v for k, v in vars(parameter).items() if k not in ("_is_bound", *LENT)}


def _restored(
    kind: type[Parameter], array: Array, state: dict[str, object]
) -> Parameter:
    parameter = kind.__new__(kind)
    parameter._array = array
    parameter._node = None
    parameter.__dict__.update(state)
    parameter._renew_leaf()
    return parameter


def _pass_on(grad: Array) -> tuple[Array | None, ...]:
    return (grad,)


def _pass_on_higher(grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    return (grad,)
