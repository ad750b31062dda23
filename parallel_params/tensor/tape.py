"""The tape: what was computed, in order, so that it can be swept in reverse.

An operation that reads a tracked tensor leaves a `Node` with the closure of its
derivative. Creation order is a topological order, so a sweep needs no graph walk: pop
the last node, apply its closure, add into the nodes it read. Popping frees the closure
and the arrays it saved, so activations die while the sweep proceeds.

Two ways to record, one kind of node:

* inside a `Frame` (`tensor/frame.py`) nodes go on the thread's tape;
* outside of any frame the only owner of a node is the tensor it made, so what is never
  differentiated is freed with that tensor. `tensor/ambient.py` sorts what it can reach.

This module knows neither operators nor how a tensor prints.
"""

import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

# Any element type: which one is a value here, so the type checker cannot follow it.
Array: TypeAlias = NDArray[Any]
Vjp: TypeAlias = Callable[[Array], "tuple[Array | None, ...]"]
# The derivative in terms of tensors, for higher orders: (gradient, output, *inputs).
Higher: TypeAlias = Callable[..., "tuple[Tracked | None, ...]"]


class Tracked(Protocol):
    """What the tape needs to know of a tensor."""

    _array: Array
    _node: "Node | None"
    _is_read: bool


Watch: TypeAlias = "Callable[[Tracked, tuple[Tracked, ...]], None]"


class Node:
    """One recorded operation, or a leaf; `grad` gathers what the sweep has brought."""

    __slots__ = ("grad", "inputs", "is_owned", "ordinal", "vjp")

    def __init__(
        self, ordinal: int, inputs: "Sequence[Node | None]", vjp: Vjp | None
    ) -> None:
        self.ordinal = ordinal
        self.inputs = inputs
        self.vjp = vjp
        self.grad: Array | None = None
        self.is_owned = False  # may `grad` be added to in place?

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

    def bury(self) -> None:
        """Be a constant from now on, and let go of what led here."""
        self.ordinal = DEAD
        self.grad = self.vjp = None
        self.inputs = ()

    def sink(self) -> Array | None:
        """Return the buffer in which the first contribution should be computed, if any.

        Who is given one must write its derivative there (`out=`) and hand it over.
        """
        return None


class DeepNode(Node):
    """A node whose derivative can be differentiated: it remembers the tensors."""

    __slots__ = ("higher", "tensors")

    def __init__(
        self,
        ordinal: int,
        inputs: Sequence[Node | None],
        vjp: Vjp,
        higher: Higher | None,
        tensors: tuple[Tracked, ...],
    ) -> None:
        super().__init__(ordinal, inputs, vjp)
        self.higher = higher
        self.tensors = tensors


class SinkLeaf(Node):
    """A leaf whose gradient is wanted in a given buffer, for example of an arena.

    The first contribution overwrites the buffer, so it need not be zeroed before.
    """

    __slots__ = ("_sink",)

    def __init__(self, ordinal: int, sink: Array) -> None:
        # Written out, because every weight gets one in every step.
        self.ordinal = ordinal
        self.inputs = ()
        self.vjp = self.grad = None
        self.is_owned = False
        self._sink = sink

    def add(self, grad: Array) -> None:
        """Add a contribution into the buffer."""
        sink = self._sink
        if grad is sink:
            return  # it was handed out, and is filled
        if self.grad is None:
            np.copyto(sink, grad, casting="same_kind")
            self.grad = sink
        else:
            np.add(sink, grad, out=sink)

    def sink(self) -> Array | None:
        """Return the buffer to the first who asks, if nothing has been written to it.

        It counts as filled from now on: an operator that reads this leaf twice may
        hand over its other contribution first.
        """
        if self.grad is not None:
            return None
        self.grad = self._sink
        return self._sink


class LazySinkLeaf(SinkLeaf):
    """A leaf that asks for its buffer when the first contribution is there."""

    __slots__ = ("_find",)

    def __init__(self, ordinal: int, find: Callable[[], Array]) -> None:
        Node.__init__(self, ordinal, (), None)
        self._find: Callable[[], Array] | None = find

    def add(self, grad: Array) -> None:
        """Add a contribution into the buffer."""
        self._settle()
        super().add(grad)

    def sink(self) -> Array | None:
        """Return the buffer to the first who asks, if nothing has been written."""
        self._settle()
        return super().sink()

    def _settle(self) -> None:
        if self._find is not None:
            self._sink = self._find()
            self._find = None


class AccumulatorLeaf(Node):
    """The permanent leaf of a tensor that requires a gradient, for `backward()`."""

    __slots__ = ("written",)

    def __init__(self) -> None:
        super().__init__(AMBIENT, (), None)
        self.written = AMBIENT  # every older node read values that are no more

    def is_rewritten(self) -> None:
        """Note that the values of the tensor are others from now on."""
        self.written = next_ordinal()

    def add(self, grad: Array) -> None:
        """Add into the accumulated gradient, which outlives the sweep."""
        if self.grad is None:
            self.grad = np.array(grad, order="C")
        else:
            np.add(self.grad, grad, out=self.grad)


AMBIENT = -1  # ordinal of permanent leaves: tracked only where no frame is open
DEAD = -2  # ordinal of nodes whose frame is over: constants for everybody
PAUSED = 1 << 62  # a floor above every ordinal
# One for all threads, because ambient nodes may cross them: next() is atomic.
next_ordinal = itertools.count().__next__


class Recording:
    """What one thread is recording."""

    __slots__ = ("depth", "floor", "nodes", "pinned", "watch")

    def __init__(self) -> None:
        self.nodes: list[Node] = []  # of all open frames, in order of creation
        self.depth = 0  # how many frames are open
        # Nodes below the floor belong to nobody who asked: they are constants.
        self.floor = AMBIENT
        # Called with every result and its operands; see `debug.py`.
        self.watch: Watch | None = None
        self.pinned = 0  # how many of the nodes must stay until they are swept


class _Local(threading.local):
    """A recording per thread, because the ranks of a thread world are threads."""

    def __init__(self) -> None:
        self.recording = Recording()


local = _Local()


def is_recording() -> bool:
    """Return whether a frame is open on this thread."""
    return local.recording.depth > 0


def is_nested() -> bool:
    """Return whether derivatives recorded now may be differentiated in their turn.

    Fused operators, whose derivative is bare array code, then step back for the single
    operators they are made of.
    """
    return local.recording.depth > 1


def is_tracked(tensor: Tracked) -> bool:
    """Return whether a gradient with respect to `tensor` is wanted."""
    node = tensor._node
    return node is not None and node.ordinal >= local.recording.floor


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
            wanted. It may keep arrays; it runs at most once and is dropped then.
        higher: the same in terms of tensors, `(gradient, out, *inputs)`, so that the
            derivative can be differentiated; None forbids higher orders.
    """
    here = local.recording
    if here.watch is not None:
        here.watch(out, inputs)
    floor = here.floor
    parents: list[Node | None] = []
    is_wanted = False
    for x in inputs:
        parent = x._node
        if parent is not None and parent.ordinal >= floor:
            parents.append(parent)
            is_wanted = True
        else:
            parents.append(None)
            x._is_read = True  # a write to it must not change what was saved
    if not is_wanted:
        return
    if here.depth > 1:
        node: Node = DeepNode(next_ordinal(), parents, vjp, higher, (out, *inputs))
    else:
        node = Node(next_ordinal(), parents, vjp)
    out._node = node
    if here.depth:
        here.nodes.append(node)


class pause:  # noqa: N801 - used like a function: `with pause():`
    """Record nothing in this block, on this thread.

    >>> from parallel_params.tensor import Tensor, no_grad
    >>> x = Tensor(2.0).requires_grad_()
    >>> with no_grad():
    ...     y = x * x
    >>> y.requires_grad
    False
    """

    def __enter__(self) -> None:
        self._recording = local.recording
        self._floor = self._recording.floor
        self._recording.floor = PAUSED

    def __exit__(self, *_: object) -> None:
        self._recording.floor = self._floor
