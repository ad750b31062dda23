"""Models that compute their own loss, because no rank has all of their outputs."""

from parallel_params import nn
from parallel_params.tensor.tensor import Tensor


class LossCell(nn.Cell):
    """A model whose outputs stay cut along an axis of the mesh.

    Called on samples it gives outputs as any other model, where the task asks for them.

    Attributes:
        is_classifier: whether `choose` says the class of a sample; a call then gives
            nothing that is of use.
    """

    is_classifier = False

    def loss(self, x: Tensor, answers: Tensor) -> Tensor:
        """Compute the mean loss of a grain, 0-d.

        Collective: the ranks along the axis, in backward too.
        """
        raise NotImplementedError

    def choose(self, x: Tensor) -> Tensor:
        """Return the class of every sample, [samples] int64.

        Collective: the ranks along the axis.
        """
        raise NotImplementedError

    def counts(self) -> dict[str, int]:
        """Return what this rank has counted so far while training, by name."""
        return {}
