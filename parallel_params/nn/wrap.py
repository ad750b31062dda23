"""Cells around a model: with its loss, and with its optimizer.

On one rank only. The step of a sharded model is `ParameterManager.step`.
"""

from typing import Protocol, cast

from parallel_params.nn.cell import Cell
from parallel_params.nn.parameter import ParameterTuple
from parallel_params.tensor.grad import value_and_grad
from parallel_params.tensor.tensor import Tensor


class _Optimizer(Protocol):
    parameters: ParameterTuple

    def __call__(self, gradients: tuple[Tensor, ...]) -> object: ...


class WithLossCell(Cell):
    """A model and its loss as one cell; names of parameters stay as they are.

    Args:
        backbone: data -> logits.
        loss_fn: (logits, label) -> loss.
    """

    def __init__(self, backbone: Cell, loss_fn: Cell) -> None:
        super().__init__(auto_prefix=False)
        self._backbone = backbone
        self._loss_fn = loss_fn

    @property
    def backbone_network(self) -> Cell:
        """The model."""
        return self._backbone

    def construct(self, data: Tensor, label: Tensor) -> Tensor:
        """Return the loss."""
        loss: Tensor = self._loss_fn(self._backbone(data), label)
        return loss


class TrainOneStepCell(Cell):
    """One step of training: all gradients first, then the optimizer.

    Args:
        network: inputs -> loss.
        optimizer: an optimizer of its parameters.
        sens: what gradients are multiplied by; the optimizer's `loss_scale` undoes it.
    """

    def __init__(self, network: Cell, optimizer: _Optimizer, sens: float = 1.0) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self.network.set_grad()
        self.optimizer = optimizer
        self.sens = sens

    @property
    def weights(self) -> ParameterTuple:
        """What the optimizer trains."""
        return self.optimizer.parameters

    def construct(self, *inputs: Tensor) -> Tensor:
        """Update the parameters; return the loss before it."""
        weights = self.weights
        loss, found = value_and_grad(self.network, None, weights)(*inputs)
        gradients = cast("tuple[Tensor, ...]", found)
        if self.sens != 1.0:
            gradients = tuple(g * self.sens for g in gradients)
        self.optimizer(gradients)
        return cast("Tensor", loss)
