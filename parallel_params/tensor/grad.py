"""`value_and_grad`, `grad` and their relatives: derivatives of functions of tensors.

The function is run once on a frame of its own; what it computed is swept and freed before
the call returns, or unwound if it raises. Weights are told apart by identity, inputs by
position.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias, cast

import numpy as np

from parallel_params.tensor.frame import Frame, Gradient
from parallel_params.tensor.tensor import Tensor

Gradients: TypeAlias = Tensor | tuple["Gradients", ...] | tuple[int | str, Tensor]
Position: TypeAlias = int | Sequence[int] | None
Weights: TypeAlias = Tensor | Sequence[Tensor] | None


def value_and_grad(
    fn: Callable[..., object],
    grad_position: Position = 0,
    weights: Weights = None,
    has_aux: bool = False,
    return_ids: bool = False,
) -> Callable[..., tuple[object, Gradients]]:
    """Return a function that computes the value of `fn` and its gradient.

    Outputs that are not numbers count as their sum; several outputs are added up.

    Args:
        fn: takes tensors and returns a tensor or a tuple of them.
        grad_position: the inputs to differentiate by: a position, several, or None.
        weights: tensors that `fn` uses, to differentiate by: one, several, or None.
        has_aux: differentiate the first output alone; the others are passed through.
        return_ids: pair every gradient with the position, or the weight's name.

    Returns:
        A function of the inputs of `fn` that returns (value, gradient). One position or
        one weight gives a bare gradient, several a tuple in their order, both kinds
        (of inputs, of weights). What `fn` does not use has a gradient of zeros; an input
        that is a Python number has none, and its place is left out.

    Raises:
        ValueError: neither positions nor weights are named; when the returned function
            is called, with `has_aux`, `fn` has only one output.
        TypeError: a position is not an integer, or a weight not a tensor.
        RuntimeError: when called: there is no input at a position.

    >>> from parallel_params.tensor import Tensor, value_and_grad
    >>> value, slope = value_and_grad(lambda x: x * x)(Tensor(3.0))
    >>> print(value, slope)
    9.0 6.0
    """
    wanted = _Wanted(grad_position, weights)

    def run(*inputs: object, **options: object) -> tuple[object, Gradients]:
        return _value_and_grad(fn, wanted, has_aux, return_ids, inputs, options)

    return run


def grad(
    fn: Callable[..., object],
    grad_position: Position = 0,
    weights: Weights = None,
    has_aux: bool = False,
    return_ids: bool = False,
) -> Callable[..., Gradients | tuple[Gradients, tuple[object, ...]]]:
    """Return a function that computes the gradient of `fn`; see `value_and_grad`.

    With `has_aux` it returns (gradient, tuple of the other outputs).

    >>> from parallel_params.tensor import Tensor, grad
    >>> print(grad(grad(lambda x: x * x * x))(Tensor(2.0)))
    12.0
    """
    both = value_and_grad(fn, grad_position, weights, has_aux, return_ids)

    def run(
        *inputs: object, **options: object
    ) -> Gradients | tuple[Gradients, tuple[object, ...]]:
        value, gradient = both(*inputs, **options)
        if has_aux:
            return gradient, cast("tuple[object, ...]", value)[1:]
        return gradient

    return run


class _Wanted:
    """What to differentiate by, checked once, and the shape of the answer."""

    def __init__(self, grad_position: Position, weights: Weights) -> None:
        if grad_position is None and weights is None:
            raise ValueError(
                "nothing to differentiate by: grad_position and weights are both None"
            )
        self.positions = _as_positions(grad_position)
        self.has_positions = grad_position is not None
        self.has_weights = weights is not None
        self.is_bare_weight = isinstance(weights, Tensor)
        self.weights = _as_weights(weights)
        # Named twice, a weight is one leaf and its gradient is handed out twice.
        self.leaves = list({id(w): w for w in self.weights}.values())

    def arrange(
        self, grads: list[tuple[int | str, Tensor]], num_inputs: int, return_ids: bool
    ) -> Gradients:
        """Give the gradients, inputs first, the nesting the caller asked for."""
        items = [pair if return_ids else pair[1] for pair in grads]
        of_inputs: Gradients = tuple(items[:num_inputs])
        if len(self.positions) == 1 and num_inputs == 1:
            of_inputs = items[0]
        of_weights: Gradients = tuple(items[num_inputs:])
        if self.is_bare_weight:
            of_weights = items[num_inputs]
        if self.has_positions and self.has_weights:
            return of_inputs, of_weights
        return of_inputs if self.has_positions else of_weights


def _as_positions(grad_position: Position) -> tuple[int, ...]:
    if grad_position is None:
        return ()
    positions = (
        tuple(grad_position)
        if isinstance(grad_position, tuple | list)
        else (grad_position,)
    )
    for position in positions:
        if isinstance(position, bool) or not isinstance(position, int):
            raise TypeError(
                f"grad_position must be an integer, several, or None, not "
                f"{grad_position!r}"
            )
    return positions


def _as_weights(weights: Weights) -> tuple[Tensor, ...]:
    if weights is None:
        return ()
    if isinstance(weights, Tensor):
        return (weights,)
    if not isinstance(weights, list | tuple):
        raise TypeError(
            f"weights must be a tensor or a list of tensors, not "
            f"{type(weights).__name__}"
        )
    for i, weight in enumerate(weights):
        if not isinstance(weight, Tensor):
            raise TypeError(
                f"weights[{i}] must be a tensor, not {type(weight).__name__}"
            )
    return tuple(weights)


def _value_and_grad(
    fn: Callable[..., object],
    wanted: _Wanted,
    has_aux: bool,
    return_ids: bool,
    inputs: tuple[object, ...],
    options: dict[str, object],
    seed: object = None,
) -> tuple[object, Gradients]:
    with Frame(wanted.leaves) as frame:
        arguments, aliases = _aliased(wanted.positions, inputs, frame)
        value = fn(*arguments, **options)
        roots = _roots(value, has_aux)
        seeds = _seeds(roots, seed)
        swept = frame.sweep_all(list(zip(roots, seeds, strict=True)))
        num_leaves = len(wanted.leaves)
        owned = _Owned(seeds)
        of_leaf = {
            id(weight): owned.tensor(part, weight)
            for weight, part in zip(wanted.leaves, swept[:num_leaves], strict=True)
        }
        grads: list[tuple[int | str, Tensor]] = [
            (position, owned.tensor(part, alias))
            for (position, alias), part in zip(aliases, swept[num_leaves:], strict=True)
        ]
        grads += [(_name(w), of_leaf[id(w)]) for w in wanted.weights]
    return value, wanted.arrange(grads, len(aliases), return_ids)


def _aliased(
    positions: tuple[int, ...], inputs: tuple[object, ...], frame: Frame
) -> tuple[list[object], list[tuple[int, Tensor]]]:
    """Replace the inputs at `positions` by aliases that are leaves of `frame`."""
    arguments = list(inputs)
    aliases: list[tuple[int, Tensor]] = []
    made: dict[int, Tensor] = {}
    for position in positions:
        if not -len(inputs) <= position < len(inputs):
            raise RuntimeError(
                f"grad_position {position} is beyond the {len(inputs)} inputs given"
            )
        source = inputs[position]
        if not isinstance(source, Tensor):
            _check_has_no_gradient(source, position)
            continue
        alias = Tensor.wrap(source._array)
        frame.add_input(alias, source)
        arguments[position] = alias
        aliases.append((position, alias))
    return arguments, aliases


def _check_has_no_gradient(source: object, position: int) -> None:
    if isinstance(source, np.ndarray):
        raise TypeError(
            f"input {position} is an ndarray, which cannot be differentiated by; wrap "
            f"it in Tensor(...)"
        )


def _roots(value: object, has_aux: bool) -> list[Tensor]:
    """Return the outputs to differentiate."""
    outputs = value if isinstance(value, tuple | list) else (value,)
    if has_aux:
        if len(outputs) < 2:
            raise ValueError(
                "with has_aux the function must return more than one output: the first "
                "is differentiated, the others are passed through"
            )
        outputs = outputs[:1]
    for output in outputs:
        if not isinstance(output, Tensor):
            raise TypeError(
                f"the function must return tensors, not {type(output).__name__}; name "
                f"outputs that are not to be differentiated with has_aux=True"
            )
    return list(outputs)


def _seeds(roots: list[Tensor], seed: object) -> list[Tensor]:
    if seed is None:
        return [Tensor.wrap(np.ones_like(root._array)) for root in roots]
    given = seed if isinstance(seed, tuple) else (seed,) * len(roots)
    if len(given) != len(roots):
        raise ValueError(
            f"{len(roots)} outputs need as many gradients, not {len(given)}"
        )
    seeds = []
    for root, part in zip(roots, given, strict=True):
        if isinstance(part, Tensor):
            like = part
        else:
            like = Tensor(part)
        if like.shape != root.shape:
            like = like.broadcast_to(root.shape)
        seeds.append(like.astype(root.dtype))
    return seeds


class _Owned:
    """Turns gradients into tensors that share memory with nothing else."""

    def __init__(self, seeds: list[Tensor]) -> None:
        self._known = {id(seed._array) for seed in seeds}

    def tensor(self, part: Gradient, like: Tensor) -> Tensor:
        """Return `part` as a tensor, zeros like `like` if nothing arrived."""
        if part is None:
            return Tensor.wrap(np.zeros_like(like._array))
        if isinstance(part, Tensor):
            return part
        array = cast("np.ndarray[tuple[int, ...], np.dtype[np.generic]]", part)
        if id(array) in self._known or not array.flags.owndata:
            array = np.array(array, order="C")
        self._known.add(id(array))
        return Tensor.wrap(array)


def _name(weight: Tensor) -> str:
    return str(getattr(weight, "name", "Tensor"))


def get_grad(gradients: object, identifier: int | Tensor) -> Tensor:
    """Return one gradient out of what `return_ids=True` gave.

    Args:
        gradients: the gradients, as returned.
        identifier: an input's position, or a weight (looked up by its name).

    Raises:
        RuntimeError: there is no gradient of that.
        TypeError: the arguments are something else.
    """
    if isinstance(identifier, Tensor):
        key: int | str = _name(identifier)
    elif isinstance(identifier, int) and not isinstance(identifier, bool):
        key = identifier
    else:
        raise TypeError(
            f"identifier must be a position or a weight, not "
            f"{type(identifier).__name__}"
        )
    if not isinstance(gradients, tuple):
        raise TypeError(
            f"gradients must be what return_ids=True gave, not "
            f"{type(gradients).__name__}"
        )
    found = _find(gradients, key)
    if found is None:
        raise RuntimeError(f"there is no gradient of {key!r} among those given")
    return found


def _find(gradients: object, key: int | str) -> Tensor | None:
    if not isinstance(gradients, tuple):
        return None
    if len(gradients) == 2 and isinstance(gradients[0], int | str):
        is_it = type(gradients[0]) is type(key) and gradients[0] == key
        return cast("Tensor", gradients[1]) if is_it else None
    for part in gradients:
        found = _find(part, key)
        if found is not None:
            return found
    return None


class GradOperation:
    """MindSpore's older spelling: an object that makes gradient functions.

    Args:
        get_all: by all inputs instead of the first.
        get_by_list: by the weights given with the function.
        sens_param: the last argument of a call is the gradient of the output.

    Raises:
        TypeError: an argument is not a bool.
    """

    def __init__(
        self, get_all: bool = False, get_by_list: bool = False, sens_param: bool = False
    ) -> None:
        for name, value in (
            ("get_all", get_all),
            ("get_by_list", get_by_list),
            ("sens_param", sens_param),
        ):
            if not isinstance(value, bool):
                raise TypeError(f"{name} must be a bool, not {value!r}")
        self.get_all = get_all
        self.get_by_list = get_by_list
        self.sens_param = sens_param

    def __call__(
        self, fn: Callable[..., object], weights: Weights = None
    ) -> Callable[..., Gradients]:
        """Return a function of the inputs of `fn` that computes its gradient.

        Args:
            fn: as in `value_and_grad`; a cell knows its weights.
            weights: what to differentiate by with `get_by_list`; by default the
                trainable parameters of the cell `fn`.
        """
        if self.get_by_list and weights is None:
            weights = fn.trainable_params()  # type: ignore[attr-defined]

        def run(*inputs: object, **options: object) -> Gradients:
            seed = None
            if self.sens_param:
                *rest, seed = inputs
                inputs = tuple(rest)
            positions: Position = None
            if self.get_all:
                positions = tuple(
                    i for i, x in enumerate(inputs) if isinstance(x, Tensor)
                )
            elif not self.get_by_list:
                positions = 0
            wanted = _Wanted(positions, weights if self.get_by_list else None)
            _, gradients = _value_and_grad(
                fn, wanted, False, False, inputs, options, seed
            )
            if self.get_all and not self.get_by_list and len(wanted.positions) == 1:
                return (gradients,)
            return gradients

        return run
