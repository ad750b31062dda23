"""A frame: a stretch of recording with respect to given weights, and its sweep.

Leaving a frame, by return or by exception, cuts the tape back to where it started; what
was computed on it is a constant from then on. Frames nest, which gives higher orders:
the sweep of an inner frame is itself recorded and leaves its nodes in place for the
outer one.

Whoever reduces gradients or gathers weights while the sweep runs listens to an
outermost frame: `on_final` says which gradient is complete, `at` marks a place on the
tape. A sweep without listeners pays nothing for them.
"""

from bisect import insort
from collections.abc import Callable, Sequence
from types import TracebackType

from parallel_params.tensor.sweep import pop_down
from parallel_params.tensor.tape import (
    PAUSED,
    Array,
    DeepNode,
    LazySinkLeaf,
    Node,
    SinkLeaf,
    Tracked,
    local,
    next_ordinal,
)

Gradient = Tracked | Array | None
Sink = Array | Callable[[], Array]

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
            the old contents do not matter. In place of a buffer a function may be
            given, which is asked for it at the first contribution, if there is one.
            Inner frames do not use them.
        on_final: called during a sweep with the position of a weight as soon as nothing
            can contribute to its gradient any more: once for each, also where nothing
            arrived; those that become final together by position. What no recorded
            operation reads is final when the sweep starts. From then on the frame does
            not touch the sink. Only for outermost frames.
    """

    def __init__(
        self,
        weights: Sequence[Tracked] = (),
        sinks: Sequence[Sink] | None = None,
        on_final: Callable[[int], None] | None = None,
    ) -> None:
        self._weights = weights
        self._sinks = sinks
        self._on_final = on_final

    def __enter__(self) -> "Frame":
        here = local.recording
        self._is_outermost = here.depth == 0
        if self._on_final is not None and not self._is_outermost:
            raise RuntimeError(_NOT_OUTERMOST)
        self._recording = here
        # (nodes left, callback), ascending; the next one due is the last.
        self._marks: list[tuple[int, Callable[[], None]]] = []
        self._start = len(here.nodes)
        if self._is_outermost:
            here.pinned = 0
        self._outer_floor = here.floor
        self._ordinal = next_ordinal()  # of all leaves; below that of every other node
        if here.depth == 0 or here.floor == PAUSED:
            here.floor = self._ordinal
        self._num_leaves_on_tape = 0
        self._outer_nodes = [weight._node for weight in self._weights]
        self._leaves: list[Node] = []
        if self._sinks is not None and self._is_outermost:
            for weight, sink in zip(self._weights, self._sinks, strict=True):
                leaf = (
                    LazySinkLeaf(self._ordinal, sink)
                    if callable(sink)
                    else SinkLeaf(self._ordinal, sink)
                )
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
        for weight, node in zip(
            reversed(self._weights), reversed(self._outer_nodes), strict=True
        ):
            _set(weight, "_node", node)
        if here.depth == 0 or error is not None:
            for node in here.nodes[self._start :]:
                node.bury()
            del here.nodes[self._start :]

    def add_input(self, alias: Tracked, source: Tracked) -> None:
        """Track `alias`, a tensor over the array of `source`, as one more leaf.

        Two aliases of one source are two leaves: inputs are told apart by position.
        """
        alias._node = self._add_leaf(source)

    @property
    def num_nodes(self) -> int:
        """How many operations lie on the tape since the frame was entered."""
        return len(self._recording.nodes) - self._start - self._num_leaves_on_tape

    def pin(self) -> int:
        """Return `num_nodes`, and have nobody take what lies there off the tape."""
        self._recording.pinned = len(self._recording.nodes)
        return self.num_nodes

    def at(self, position: int, callback: Callable[[], None]) -> None:
        """Have the sweep call back when all but the first operations are through.

        A listener called at the same moment by `on_final` comes before; of several
        marks at one position the last one set comes first. The next sweep uses up all
        marks. Marks may be set while it runs.

        Args:
            position: how many operations are left then, at most `num_nodes`.
            callback: called before the next derivative; what it raises ends the sweep.

        Raises:
            RuntimeError: this is no outermost frame.
            ValueError: there is no such position on the tape.
        """
        if not self._is_outermost:
            raise RuntimeError(_NOT_OUTERMOST)
        if not 0 <= position <= self.num_nodes:
            raise ValueError(
                f"position {position} is not on the tape, which has {self.num_nodes} "
                f"operations"
            )
        insort(self._marks, (position, callback), key=_position)

    def has_arrived(self, position: int) -> bool:
        """Return whether a gradient of this weight has arrived in the sweep so far."""
        return self._leaves[position].grad is not None

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
        return self.sweep_all(((root, seed),))

    def sweep_all(self, seeds: Sequence[tuple[Tracked, Tracked]]) -> list[Gradient]:
        """Run backward from several roots, each with its gradient, at once."""
        mine = [
            (root._node, seed)
            for root, seed in seeds
            if root._node is not None and root._node.ordinal >= self._ordinal
        ]
        is_heard = self._on_final is not None or self._marks
        if self._recording.depth > 1:
            if is_heard:
                raise RuntimeError(_NOT_OUTERMOST)
            return self._sweep_recorded(mine)
        for node, seed in mine:
            node.add(seed._array)
        if is_heard:
            self._sweep_calling()
        self._sweep_popping(0)
        return [leaf.take() for leaf in self._leaves]

    def _sweep_calling(self) -> None:
        """Sweep until the last listener is called, stopping where one is due."""
        final = self._final_positions()
        marks = self._marks
        while final or marks:
            due = max(entries[-1][0] for entries in (final, marks) if entries)
            self._sweep_popping(due)
            while final and final[-1][0] >= due:
                assert self._on_final is not None
                self._on_final(final.pop()[1])
            while marks and marks[-1][0] >= due:
                marks.pop()[1]()

    def _final_positions(self) -> list[tuple[int, int]]:
        """Return (nodes left, weight) of each final gradient, the first one last."""
        if self._on_final is None:
            return []
        nodes = self._recording.nodes[self._start + self._num_leaves_on_tape :]
        # The first operation that reads a leaf is the last to contribute: it stays.
        first_reader = {
            parent: left
            for left, node in zip(
                range(len(nodes) - 1, -1, -1), reversed(nodes), strict=True
            )
            for parent in node.inputs
        }
        found = [
            (first_reader.get(leaf, len(nodes)), i)
            for i, leaf in enumerate(self._leaves[: len(self._weights)])
        ]
        return sorted(found, key=lambda entry: (entry[0], -entry[1]))

    def _sweep_popping(self, num_left: int) -> None:
        start = self._start + self._num_leaves_on_tape + num_left
        pop_down(self._recording.nodes, start)

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


_NOT_OUTERMOST = (
    "on_final and at() are for an outermost frame, swept while no other is open: what "
    "an inner frame brings is itself part of a tape, so no gradient in it is final"
)


def _position(mark: tuple[int, Callable[[], None]]) -> int:
    return mark[0]


def _gather(grads: dict[Node, Tracked], node: Node, part: Tracked) -> None:
    known = grads.get(node)
    # Tensors add; the tape itself does not know them.
    grads[node] = part if known is None else known + part  # type: ignore[operator]


def _pass_on(grad: Array) -> tuple[Array | None, ...]:
    return (grad,)


def _pass_on_deep(grad: Tracked, *_: Tracked) -> tuple[Tracked | None, ...]:
    return (grad,)
