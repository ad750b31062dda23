"""`value_and_grad`, `grad` and their relatives: derivatives of functions of tensors.

The function is run once on a frame of its own; what it computed is swept and freed
before the call returns, or unwound if it raises. Weights are told apart by identity,
inputs by position. How that is done is in `tensor/differentiate.py`.
"""

from collections.abc import Callable
from typing import cast

from parallel_params.tensor.differentiate import (
    Gradients,
    Position,
    Wanted,
    Weights,
    differentiate,
    name_of,
)
from parallel_params.tensor.tensor import Tensor


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
        A function of the inputs of `fn` that returns (value, gradient). One position
        or one bare weight gives a bare gradient, several a tuple in their order, both
        kinds (of inputs, of weights). What `fn` does not use has a gradient of zeros;
        an input that is a Python number has none, and its place is left out.

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
    wanted = Wanted(grad_position, weights)

    def run(*inputs: object, **options: object) -> tuple[object, Gradients]:
        return differentiate(fn, wanted, has_aux, return_ids, inputs, options)

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


def get_grad(gradients: object, identifier: object) -> Tensor:
    """Return one gradient out of what `return_ids=True` gave.

    Args:
        gradients: the gradients, as returned.
        identifier: an input's position, or a weight (looked up by its name).

    Raises:
        RuntimeError: there is no gradient of that.
        TypeError: the arguments are something else.
    """
    if isinstance(identifier, Tensor):
        key: int | str = name_of(identifier)
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
            wanted = Wanted(positions, weights if self.get_by_list else None)
            _, gradients = differentiate(
                fn, wanted, False, False, inputs, options, seed
            )
            if self.get_all and not self.get_by_list and len(wanted.positions) == 1:
                return (gradients,)
            return gradients

        return run
