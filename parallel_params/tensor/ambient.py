"""The sweep of `loss.backward()`: outside of frames, from a tensor to its leaves."""

from collections.abc import Iterable

from parallel_params.tensor.tape import AccumulatorLeaf, Array, Node, is_recording


def sweep_ambient(root: Node, seed: Array) -> None:
    """Run backward from `root` through every node it was computed from.

    Gradients end in the permanent leaves. Nodes are spent: their closures are dropped
    as they run, so a second sweep over them is an error, raised before anything is
    added.

    Raises:
        RuntimeError: a frame is open, or part of what led to `root` was swept before,
            or a leaf was written to after it was read.
    """
    if is_recording():
        raise RuntimeError(
            "backward() cannot run inside value_and_grad: the gradient is what that "
            "returns"
        )
    if isinstance(root, AccumulatorLeaf):
        root.add(seed)
        return
    nodes = sorted(_reachable(root), key=lambda node: node.ordinal, reverse=True)
    if any(node.vjp is None for node in nodes):
        raise RuntimeError(
            "backward() ran through this computation before and its saved values are "
            "freed; compute the loss again, or add the losses first"
        )
    _check_leaves(nodes)
    root.add(seed)
    for node in nodes:
        grad, vjp, inputs = node.take(), node.vjp, node.inputs
        node.vjp = None
        if grad is None or vjp is None:
            continue
        for parent, part in zip(inputs, vjp(grad), strict=True):
            if parent is not None and part is not None:
                parent.add(part)


def _check_leaves(nodes: Iterable[Node]) -> None:
    for node in nodes:
        for parent in node.inputs:
            if isinstance(parent, AccumulatorLeaf) and parent.written > node.ordinal:
                raise RuntimeError(
                    "backward(): a tensor that requires a gradient was written to "
                    "after it was used here, so the values that the derivative needs "
                    "are gone; call backward() first, or compute the loss again"
                )


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
