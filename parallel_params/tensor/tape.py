"""The tape: what was computed, in order, and the reverse sweep over it.

An operation that reads a tracked tensor leaves a `Node` with the closure of its
derivative. Creation order is a topological order, so the sweep needs no graph walk: pop
the last node, apply its closure, add into the nodes it read. Popping frees the closure
and the arrays it saved, so activations die while the sweep proceeds.

Two ways to record, one kind of node:

* inside a `Frame` (`value_and_grad`, `ParameterManager.step`) nodes go on the thread's
  tape; leaving the frame, by return or by exception, cuts the tape back to its start;
* outside of any frame the only owner of a node is the tensor it made, so what is never
  differentiated is freed with that tensor. `backward` then sorts what it can reach.

Frames nest, which gives higher orders: the sweep of an inner frame is itself recorded
and leaves the nodes in place for the outer one.

This module knows neither operators nor how a tensor prints.
"""

import itertools
import threading
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

# Any element type: which one is a value here, so the type checker cannot follow it.
Array: TypeAlias = NDArray[Any]
Vjp = Callable[[Array], "tuple[Array | None, ...]"]


class Tracked(Protocol):
    """What the tape needs to know of a tensor."""

    _array: Array
    _node: "Node | None"


# The derivative in terms of tensors, for higher orders: (gradient, output, *inputs).
Higher = Callable[..., "tuple[Tracked | None, ...]"]


class Node:
    """One recorded operation, or a leaf; `grad` gathers what the sweep has brought."""

    __slots__ = ("grad", "higher", "inputs", "is_owned", "ordinal", "saved", "vjp")

    def __init__(
        self, ordinal: int, inputs: "Sequence[Node | None]", vjp: Vjp | None
    ) -> None:
        self.ordinal = ordinal
        self.inputs = inputs
        self.vjp = vjp
        self.grad: Array | None = None
        self.is_owned = False  # may `grad` be added to in place?
        self.higher: Higher | None = None
        self.saved: tuple[Tracked, ...] = ()

    def add(self, grad: Array) -> None:
        """Add a contribution. It may be an alias, so it is never written to."""
        if self.grad is None:
            self.grad = grad
        elif self.is_owned:
            np.add(self.grad, grad, out=self.grad)
        else:
            self.grad = np.asarray(np.add(self.grad, grad))
            self.is_owned = True

    def take(self) -> Array | None:
        """Return the gathered gradient and forget it."""
        grad, self.grad, self.is_owned = self.grad, None, False
        return grad

    def sink(self) -> Array | None:
        """Return the buffer in which the first contribution should be computed, if any.

        An operator may write its derivative there (`out=`) and hand over that buffer.
        """
        return None


class Leaf(Node):
    """A node that the sweep ends at: an input or a weight of a frame."""

    __slots__ = ()


class SinkLeaf(Leaf):
    """A leaf whose gradient is wanted in a given buffer, for example of an arena.

    The first contribution overwrites the buffer, so it need not be zeroed before.
    """

    __slots__ = ("_sink",)

    def __init__(self, ordinal: int, sink: Array) -> None:
        super().__init__(ordinal, (), None)
        self._sink = sink

    def add(self, grad: Array) -> None:
        """Add a contribution into the buffer."""
        sink = self._sink
        if self.grad is not None:
            np.add(sink, grad, out=sink)
        else:
            if grad is not sink:
                np.copyto(sink, grad, casting="same_kind")
            self.grad = sink

    def sink(self) -> Array | None:
        """Return the buffer as long as nothing has been written to it."""
        return self._sink if self.grad is None else None


class AccumulatorLeaf(Leaf):
    """The permanent leaf of a tensor that requires a gradient, for `backward()`."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(AMBIENT, (), None)

    def add(self, grad: Array) -> None:
        """Add into the accumulated gradient, which outlives the sweep."""
        if self.grad is None:
            self.grad = np.array(grad)
        else:
            np.add(self.grad, grad, out=self.grad)


AMBIENT = -1  # ordinal of permanent leaves: tracked only where no frame is open
DEAD = -2  # ordinal of nodes whose frame is over: constants for everybody
PAUSED = 1 << 62  # a floor above every ordinal
_ordinals = itertools.count()  # one for all threads: next() is atomic


class _State(threading.local):
    """What this thread is recording; ranks of a thread world are threads."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.depth = 0
        # Nodes below the floor belong to nobody who asked: they are constants.
        self.floor = AMBIENT


_state = _State()


def is_tracked(tensor: Tracked) -> bool:
    """Return whether a gradient with respect to `tensor` is wanted."""
    node = tensor._node
    return node is not None and node.ordinal >= _state.floor


def record(
    out: Tracked,
    inputs: tuple[Tracked, ...],
    vjp: Vjp,
    higher: Higher | None = None,
) -> None:
    """Put the operation that made `out` on record if any of `inputs` is tracked.

    Args:
        out: the result, not yet tracked.
        inputs: the operands, in the order of the derivatives.
        vjp: maps the gradient of `out` to those of the inputs; None where none is
            wanted. It may keep arrays, and is dropped as soon as it has run.
        higher: the same in terms of tensors, `(gradient, out, *inputs)`, so that the
            derivative can be differentiated; None forbids higher orders.
    """
    state = _state
    floor = state.floor
    parents: list[Node | None] = []
    is_wanted = False
    for x in inputs:
        parent = x._node
        if parent is not None and parent.ordinal >= floor:
            parents.append(parent)
            is_wanted = True
        else:
            parents.append(None)
    if not is_wanted:
        return
    node = Node(next(_ordinals), parents, vjp)
    out._node = node
    if state.depth:
        state.nodes.append(node)
        if state.depth > 1:
            node.higher = higher
            node.saved = (out, *inputs)


class pause:  # noqa: N801 - used like a function: `with pause():`
    """Record nothing in this block, on this thread."""

    def __enter__(self) -> None:
        self._floor = _state.floor
        _state.floor = PAUSED

    def __exit__(self, *_: object) -> None:
        _state.floor = self._floor


class Frame:
    """A stretch of recording with respect to given weights; a context manager.

    Args:
        weights: tensors whose gradients are wanted, each at most once.
        sinks: one buffer per weight to receive its gradient, or None.
    """

    def __init__(
        self, weights: Sequence[Tracked], sinks: Sequence[Array] | None = None
    ) -> None:
        self._weights = weights
        self._sinks = sinks

    def __enter__(self) -> "Frame":
        state = _state
        self._floor = state.floor
        self._start = len(state.nodes)
        self._num_leaves_on_tape = 0
        self._outer = [w._node for w in self._weights]
        if state.depth == 0 or state.floor == PAUSED:
            state.floor = next(_ordinals)
        self._leaves = [
            self._leaf(w, None if self._sinks is None else self._sinks[i])
            for i, w in enumerate(self._weights)
        ]
        for weight, leaf in zip(self._weights, self._leaves, strict=True):
            weight._node = leaf
        state.depth += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        state = _state
        state.depth -= 1
        state.floor = self._floor
        for weight, node in zip(self._weights, self._outer, strict=True):
            weight._node = node
        if state.depth == 0 or error is not None:
            for node in state.nodes[self._start :]:
                node.ordinal = DEAD
            del state.nodes[self._start :]

    @property
    def is_inner(self) -> bool:
        """Whether another frame will differentiate what this one computes."""
        return _state.depth > 1

    def _leaf(self, tensor: Tracked, sink: Array | None) -> Node:
        if sink is not None and _state.depth == 0:
            return SinkLeaf(next(_ordinals), sink)
        outer = tensor._node
        if outer is not None and outer.ordinal < _state.floor:
            outer = None
        leaf = Leaf(next(_ordinals), (outer,), _pass_on)
        leaf.higher = _pass_on_higher
        leaf.saved = (tensor,)
        _state.nodes.append(leaf)
        self._num_leaves_on_tape += 1
        return leaf

    def add_input(self, tensor: Tracked, source: Tracked) -> Node:
        """Make `tensor`, an alias of `source`, an input of this frame."""
        leaf = self._leaf(source, None)
        tensor._node = leaf
        self._leaves.append(leaf)
        return leaf

    def sweep(self, root: Tracked, seed: Tracked) -> "list[Tracked | Array | None]":
        """Run backward from `root`; return one gradient per leaf, in order.

        Gradients are arrays in an outermost frame and tensors in an inner one; None
        where nothing arrived. With sinks, the sink itself where something arrived.
        """
        node = root._node
        if node is not None and node.ordinal >= self._leaves_floor():
            if self.is_inner:
                return self._sweep_recorded(node, seed)
            node.add(seed._array)
            self._sweep_popping()
        return [leaf.take() for leaf in self._leaves]

    def _leaves_floor(self) -> int:
        return self._leaves[0].ordinal if self._leaves else next(_ordinals)

    def _sweep_popping(self) -> None:
        nodes = _state.nodes
        start = self._start + self._num_leaves_on_tape
        while len(nodes) > start:
            node = nodes.pop()
            node.ordinal = DEAD
            grad, vjp = node.grad, node.vjp
            node.grad = node.vjp = None
            if grad is None or vjp is None:
                continue
            parts = vjp(grad)
            for parent, part in zip(node.inputs, parts):  # noqa: B905 - 0.2 us an op
                if parent is not None and part is not None:
                    if parent.grad is None and type(parent) is Node:
                        parent.grad = part
                    else:
                        parent.add(part)

    def _sweep_recorded(
        self, root: Node, seed: Tracked
    ) -> "list[Tracked | Array | None]":
        """Sweep in terms of tensors, leaving every node for the outer frame."""
        floor = self._leaves_floor()
        grads: dict[Node, Tracked] = {root: seed}
        for node in reversed(_state.nodes[self._start + self._num_leaves_on_tape :]):
            if node not in grads:
                continue
            if node.higher is None:
                raise NotImplementedError(
                    "an operator in this function has no second derivative"
                )
            parts = node.higher(grads.pop(node), *node.saved)
            for parent, part in zip(node.inputs, parts, strict=True):
                if parent is None or part is None or parent.ordinal < floor:
                    continue
                known = grads.get(parent)
                grads[parent] = part if known is None else known + part  # type: ignore[operator]
        return [grads.get(leaf) for leaf in self._leaves]


def _pass_on(grad: Array) -> tuple[Array | None, ...]:
    return (grad,)


def _pass_on_higher(grad: Tracked, *_: Tracked) -> tuple[Tracked | None, ...]:
    return (grad,)


def sweep_ambient(root: Node, seed: Array) -> None:
    """Run backward from `root` through every node it was computed from.

    Used outside of frames: gradients end in the permanent leaves. Nodes are spent: their
    closures are dropped as they run, so a second sweep over them is an error.

    Raises:
        RuntimeError: part of what led to `root` has been swept before.
    """
    root.add(seed)
    if isinstance(root, AccumulatorLeaf):
        return
    for node in sorted(_reachable(root), key=lambda n: n.ordinal, reverse=True):
        grad, vjp = node.take(), node.vjp
        if vjp is None:
            raise RuntimeError(
                "backward() ran through this computation before and its saved values "
                "are freed; compute the loss again, or add the losses first"
            )
        node.vjp = None
        if grad is None:
            continue
        for parent, part in zip(node.inputs, vjp(grad), strict=True):
            if parent is not None and part is not None:
                parent.add(part)


def _reachable(root: Node) -> Iterable[Node]:
    seen = {root}
    todo = [root]
    while todo:
        node = todo.pop()
        yield node
        for parent in node.inputs:
            if (
                parent is not None
                and parent not in seen
                and not isinstance(parent, AccumulatorLeaf)
            ):
                seen.add(parent)
                todo.append(parent)
