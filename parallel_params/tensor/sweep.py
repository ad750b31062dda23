"""The loop of a reverse sweep: pop the last node, apply its derivative, go on."""

from parallel_params.tensor.tape import DEAD, Node


def pop_down(nodes: list[Node], length: int) -> None:
    """Sweep the nodes behind the first `length` and take them off the tape."""
    while len(nodes) > length:
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
