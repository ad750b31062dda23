"""One run of a function on a frame of its own, and its gradients as asked for.

What may be asked for is in `tensor/grad.py`.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias, cast

import numpy as np

from parallel_params.tensor.frame import Frame, Gradient
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor

Gradients: TypeAlias = Tensor | tuple["Gradients", ...] | tuple[int | str, Tensor]
Position: TypeAlias = int | Sequence[int] | None
Weights: TypeAlias = Tensor | Sequence[Tensor] | None


class Wanted:
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


def differentiate(
    fn: Callable[..., object],
    wanted: Wanted,
    has_aux: bool,
    return_ids: bool,
    inputs: tuple[object, ...],
    options: dict[str, object],
    seed: object = None,
) -> tuple[object, Gradients]:
    """Run `fn` and sweep back; return its value and the gradients that are wanted.

    Args:
        fn: as in `value_and_grad`.
        wanted: what to differentiate by.
        has_aux: whether only the first output is differentiated.
        return_ids: whether each gradient is paired with what it belongs to.
        inputs: the positional arguments of `fn`.
        options: its keyword arguments.
        seed: the gradient of the output, or a tuple of one per output; ones if None.
    """
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
        grads += [(name_of(w), of_leaf[id(w)]) for w in wanted.weights]
    return value, wanted.arrange(grads, len(aliases), return_ids)


def _aliased(
    positions: tuple[int, ...], inputs: tuple[object, ...], frame: Frame
) -> tuple[list[object], list[tuple[int, Tensor]]]:
    """Replace the inputs at `positions` by aliases that are leaves of `frame`."""
    arguments = list(inputs)
    aliases: list[tuple[int, Tensor]] = []
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
        like = part if isinstance(part, Tensor) else Tensor(part)
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
        array = cast("Array", part)
        if id(array) in self._known or not array.flags.owndata:
            array = np.array(array, order="C")
        self._known.add(id(array))
        return Tensor.wrap(array)


def name_of(weight: Tensor) -> str:
    """Return the name of a parameter; that of a plain tensor is "Tensor"."""
    return str(getattr(weight, "name", "Tensor"))
