"""Activations dropped after forward and made again in backward.

A region is run once and recorded; then its nodes are taken off the tape, and with them
go the arrays they saved. One node stays in their place. When the sweep comes there, the
region is run and recorded again, at the end of the tape, and swept at once. It reads
the same tensors as the first time, so gradients go where they would have gone, in the
same order: nothing changes but time and memory. Random draws are replayed.

The node that stays reads what the region read: no gradient is called final before it.

Source: Chen et al., Training deep nets with sublinear memory cost (2016).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from parallel_params.tensor import random
from parallel_params.tensor.sweep import pop_down
from parallel_params.tensor.tape import PAUSED, Array, Node, local, next_ordinal
from parallel_params.tensor.tensor import Tensor


def recomputed(fn: Callable[[], object], again: Callable[[], object]) -> object:
    """Return what `fn` returns, without keeping what it saved for its derivative.

    Nothing is dropped where the derivative itself will be differentiated, where nothing
    is recorded, and where the tape was pinned meanwhile (`Frame.pin`).

    Args:
        fn: runs the region: a tensor, or tuples, lists and dicts of them.
        again: does the same in backward, and leaves no other trace.
    """
    here = local.recording
    if here.depth > 1 or here.floor == PAUSED:
        return fn()
    start, first, mark = len(here.nodes), next_ordinal(), random.get_mark()
    out = fn()
    made = _made_since(first, out)
    if not made or here.pinned > start:
        return out
    roots = [tensor._node for tensor in made if tensor._node is not None]
    inner = here.nodes[start:] if here.depth else [*_between(first, roots)]
    outer = dict.fromkeys(
        parent
        for node in inner
        for parent in node.inputs
        if parent is not None and parent.ordinal < first
    )
    for node in inner:
        node.bury()
    del here.nodes[start:]
    region = _Region(again, mark, here.floor, len(made))
    region.replace(made, (*outer,))
    return out


class _Region:
    """What is needed to run a region again, and the gradients of its results."""

    def __init__(
        self, again: Callable[[], object], mark: random.Mark, floor: int, count: int
    ) -> None:
        self._again, self._mark, self._floor = again, mark, floor
        self._grads: list[Array | None] = [None] * count
        self._num_outer = 0

    def replace(self, made: Sequence[Tensor], outer: Sequence[Node]) -> None:
        """Put one node, and one per result, where the nodes of the region were."""
        here = local.recording
        self._num_outer = len(outer)
        node = Node(next_ordinal(), outer, self._run_back)
        nodes = [node]
        for i, tensor in enumerate(made):
            tensor._node = Node(next_ordinal(), (node,), self._keeper(i))
            nodes.append(tensor._node)
        if here.depth:
            here.nodes += nodes

    def _keeper(self, i: int) -> "Callable[[Array], tuple[Array]]":
        def keep(grad: Array) -> tuple[Array]:
            self._grads[i] = grad
            return (_ARRIVED,)

        return keep

    def _run_back(self, _: Array) -> tuple[Array | None, ...]:
        here = local.recording
        start, first, floor = len(here.nodes), next_ordinal(), here.floor
        # What was pinned in forward is about to be swept.
        here.floor, here.pinned = self._floor, 0
        try:
            with random.replay(self._mark):
                made = _made_since(first, self._again())
        finally:
            here.floor = floor
        if len(made) != len(self._grads):
            raise RuntimeError(
                f"a recomputed cell made {len(made)} results in backward and "
                f"{len(self._grads)} in forward; what it computes must depend on its "
                "inputs and weights alone"
            )
        roots = [tensor._node for tensor in made if tensor._node is not None]
        del made
        for root, grad in zip(roots, self._grads, strict=True):
            if grad is not None:
                root.add(grad)
        if here.depth:
            pop_down(here.nodes, start)
        else:
            # Outside of frames no tape holds them; they need one to be swept.
            pop_down(sorted(_between(first, roots), key=_ordinal), 0)
        # The gradients have gone where they belong.
        return (None,) * self._num_outer


_ARRIVED = np.zeros(())  # says no more than that there is a gradient


def _made_since(first: int, out: object) -> list[Tensor]:
    """Return the recorded tensors in a result that are younger, each once."""
    found = {
        id(tensor): tensor
        for tensor in _tensors(out)
        if tensor._node is not None and tensor._node.ordinal > first
    }
    return [*found.values()]


def _tensors(out: object) -> Iterator[Tensor]:
    if isinstance(out, Tensor):
        yield out
    elif isinstance(out, Mapping):
        for part in out.values():
            yield from _tensors(part)
    elif isinstance(out, tuple | list):
        for part in out:
            yield from _tensors(part)


def _between(first: int, roots: Sequence[Node]) -> Iterator[Node]:
    """Yield what led to `roots` and is younger than `first`."""
    seen, todo = set(roots), [*roots]
    while todo:
        node = todo.pop()
        yield node
        for parent in node.inputs:
            if parent is not None and parent.ordinal > first and parent not in seen:
                seen.add(parent)
                todo.append(parent)


def _ordinal(node: Node) -> int:
    return node.ordinal
