"""A frame: a stretch of recording with respect to given weights, and its sweep.

Leaving a frame, by return or by exception, cuts the tape back to where it started; what
was computed on it is a constant from then on. Frames nest, which gives higher orders:
the sweep of an inner frame is itself recorded and leaves its nodes in place for the
outer one.
"""

from collections.abc import Sequence
from types import TracebackType

from parallel_params.tensor.tape import (
    DEAD,
    PAUSED,
    Array,
    DeepNode,
    Node,
    SinkLeaf,
    Tracked,
    local,
    next_ordinal,
)

Gradient = Tracked | Array | None

# A Parameter checks what is set on it; for its node, which is set twice per frame, that
# would cost more than all the rest of entering one.
_set = object.__setattr__


class Frame:
    """Record what is computed from given weights; a context manager.

    Used by `value_and_grad`, and by whoever wants gradients in buffers of their own:

        with Frame(parameters, sinks) as frame:
            loss = loss_fn(*batch)
            arrived = frame.sweep(loss, seed)

    Args:
        weights: tensors whose gradients are wanted, each at most once. They belong to
            this thread until the frame is left.
        sinks: one buffer per weight, of its shape and type, to receive its gradient;
            the old contents do not matter. Inner frames do not use them.
    """

    def __init__(
        self, weights: Sequence[Tracked] = (), sinks: Sequence[Array] | None = None
    ) -> None:
        self._weights = weights
        self._sinks = sinks

    def __enter__(self) -> "Frame":
        here = local.recording
        self._recording = here
        self._start = len(here.nodes)
        self._outer_floor = here.floor
        self._ordinal = next_ordinal()  # of all leaves; below that of every other node
        if here.depth == 0 or here.floor == PAUSED:
            here.floor = self._ordinal
        self._num_leaves_on_tape = 0
        self._outer_nodes = [weight._node for weight in self._weights]
        self._leaves: list[Node] = []
        if self._sinks is not None and here.depth == 0:
            for weight, sink in zip(self._weights, self._sinks, strict=True):
                leaf = SinkLeaf(self._ordinal, sink)
                _set(weight, "_node", leaf)
                self._leaves.append(leaf)
        else:
            for weight in self._weights:
                weight._node = self._add_leaf(weight)
        here.depth += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        here = self._recording
        here.depth -= 1
        here.floor = self._outer_floor
        # Backwards, so that a weight named twice gets back what it had at first.
        for i in range(len(self._weights) - 1, -1, -1):
            _set(self._weights[i], "_node", self._outer_nodes[i])
        if here.depth == 0 or error is not None:
            for node in here.nodes[self._start :]:
                _bury(node)
            del here.nodes[self._start :]

    def add_input(self, alias: Tracked, source: Tracked) -> None:
        """Track `alias`, a tensor over the array of `source`, as one more leaf.

        Two aliases of one source are two leaves: inputs are told apart by position.
        """
        alias._node = self._add_leaf(source)

    def _add_leaf(self, source: Tracked) -> Node:
        """Make a leaf which, for the frames around this one, passes on to `source`."""
        here = self._recording
        outer = source._node
        if outer is not None and outer.ordinal < here.floor:
            outer = None
        leaf = DeepNode(self._ordinal, (outer,), _pass_on, _pass_on_deep, (source,))
        here.nodes.append(leaf)
        self._leaves.append(leaf)
        self._num_leaves_on_tape += 1
        return leaf

    def sweep(self, root: Tracked, seed: Tracked) -> list[Gradient]:
        """Run backward from `root`; return one gradient per leaf, weights first.

        Args:
            root: what to differentiate.
            seed: the gradient of `root`, of its shape and type.

        Returns:
            Arrays in an outermost frame, tensors in an inner one; None where nothing
            arrived. With sinks, the sink itself where something arrived. An array may
            share memory with others of them or with `seed`.
        """
        return self.sweep_all([(root, seed)])

    def sweep_all(self, seeds: Sequence[tuple[Tracked, Tracked]]) -> list[Gradient]:
        """Run backward from several roots, each with its gradient, at once."""
        mine = [
            (root._node, seed)
            for root, seed in seeds
            if root._node is not None and root._node.ordinal >= self._ordinal
        ]
        if self._recording.depth > 1:
            return self._sweep_recorded(mine)
        for node, seed in mine:
            node.add(seed._array)
        self._sweep_popping()
        return [leaf.take() for leaf in self._leaves]

    def _sweep_popping(self) -> None:
        nodes = self._recording.nodes
        start = self._start + self._num_leaves_on_tape
        while len(nodes) > start:
            node = nodes.pop()
            grad, vjp, inputs = node.grad, node.vjp, node.inputs
            # The result may live on in a caller's hands; what led to it must not.
            node.ordinal = DEAD
            node.grad = node.vjp = None
            node.inputs = ()
            if grad is None or vjp is None:
                continue
            for parent, part in zip(inputs, vjp(grad)):  # noqa: B905 - 0.2 us an op
                if parent is None or part is None:
                    continue
                if parent.grad is None and type(parent) is Node:
                    parent.grad = part  # what add() does, without the call
                else:
                    parent.add(part)

    def _sweep_recorded(self, seeds: list[tuple[Node, Tracked]]) -> list[Gradient]:
        """Sweep in terms of tensors, leaving every node for the outer frame."""
        grads: dict[Node, Tracked] = {}
        for root, seed in seeds:
            _gather(grads, root, seed)
        start = self._start + self._num_leaves_on_tape
        for node in reversed(self._recording.nodes[start:]):
            if node not in grads or not isinstance(node, DeepNode):
                continue
            if node.higher is None:
                raise NotImplementedError(
                    "an operator in this function has no second derivative"
                )
            parts = node.higher(grads.pop(node), *node.tensors)
            for parent, part in zip(node.inputs, parts, strict=True):
                if parent is None or part is None or parent.ordinal < self._ordinal:
                    continue
                _gather(grads, parent, part)
        return [grads.get(leaf) for leaf in self._leaves]


def _gather(grads: dict[Node, Tracked], node: Node, part: Tracked) -> None:
    known = grads.get(node)
    # Tensors add; the tape itself does not know them.
    grads[node] = part if known is None else known + part  # type: ignore[operator]


def _bury(node: Node) -> None:
    node.ordinal = DEAD
    node.grad = node.vjp = None
    node.inputs = ()


def _pass_on(grad: Array) -> tuple[Array | None, ...]:
    return (grad,)


def _pass_on_deep(grad: Tracked, *_: Tracked) -> tuple[Tracked | None, ...]:
    return (grad,)
