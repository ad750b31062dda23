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
    next_ordinal,
    state,
)

Gradient = Tracked | Array | None


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
        self._start = len(state.nodes)
        self._outer_floor = state.floor
        if state.depth == 0 or state.floor == PAUSED:
            state.floor = next_ordinal()
        self._floor = next_ordinal()
        self._num_leaves_on_tape = 0
        self._outer_nodes = [weight._node for weight in self._weights]
        self._leaves: list[Node] = []
        for i, weight in enumerate(self._weights):
            if self._sinks is not None and state.depth == 0:
                leaf: Node = SinkLeaf(next_ordinal(), self._sinks[i])
                self._leaves.append(leaf)
            else:
                leaf = self._add_leaf(weight)
            weight._node = leaf
        state.depth += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        state.depth -= 1
        state.floor = self._outer_floor
        for weight, node in zip(
            reversed(self._weights), reversed(self._outer_nodes), strict=True
        ):
            weight._node = node
        if state.depth == 0 or error is not None:
            for node in state.nodes[self._start :]:
                _bury(node)
            del state.nodes[self._start :]
        for leaf in self._leaves:
            if state.depth == 0:
                _bury(leaf)

    def add_input(self, alias: Tracked, source: Tracked) -> None:
        """Track `alias`, a tensor over the array of `source`, as one more leaf.

        Two aliases of one source are two leaves: inputs are told apart by position.
        """
        alias._node = self._add_leaf(source)

    def _add_leaf(self, source: Tracked) -> Node:
        """Make a leaf which, for the frames around this one, passes on to `source`."""
        outer = source._node
        if outer is not None and outer.ordinal < state.floor:
            outer = None
        leaf = DeepNode(next_ordinal(), (outer,), _pass_on, _pass_on_deep, (source,))
        state.nodes.append(leaf)
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
            if root._node is not None and root._node.ordinal > self._floor
        ]
        if state.depth > 1:
            return self._sweep_recorded(mine)
        for node, seed in mine:
            node.add(seed._array)
        self._sweep_popping()
        return [leaf.take() for leaf in self._leaves]

    def _sweep_popping(self) -> None:
        nodes = state.nodes
        start = self._start + self._num_leaves_on_tape
        pop = nodes.pop
        while len(nodes) > start:
            node = pop()
            grad, vjp, inputs = node.grad, node.vjp, node.inputs
            # The result may live on in a caller's hands; what led to it must not.
            node.ordinal = DEAD
            node.grad = node.vjp = None
            node.inputs = ()
            if grad is None or vjp is None:
                continue
            for parent, part in zip(inputs, vjp(grad)):  # noqa: B905 - 0.2 us an op
                if parent is not None and part is not None:
                    parent.add(part)

    def _sweep_recorded(self, seeds: list[tuple[Node, Tracked]]) -> list[Gradient]:
        """Sweep in terms of tensors, leaving every node for the outer frame."""
        grads: dict[Node, Tracked] = {}
        for root, seed in seeds:
            _gather(grads, root, seed)
        start = self._start + self._num_leaves_on_tape
        for node in reversed(state.nodes[start:]):
            if node not in grads or not isinstance(node, DeepNode):
                continue
            if node.higher is None:
                raise NotImplementedError(
                    "an operator in this function has no second derivative"
                )
            parts = node.higher(grads.pop(node), *node.tensors)
            for parent, part in zip(node.inputs, parts, strict=True):
                if parent is None or part is None or parent.ordinal < self._floor:
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
