"""What every cell that is cut along an axis has in common."""

from parallel_params.errors import PlanError
from parallel_params.nn.cell import Cell
from parallel_params.nn.parallel.axis import Axis
from parallel_params.nn.parameter import Parameter
from parallel_params.tensor.dtype import DType
from parallel_params.tensor.initializer import Init
from parallel_params.tensor.lazy_slice import LazySlice


class AxisCell(Cell):
    """A cell whose ranks along an axis work together.

    Args:
        axis: along which.
        sees_same_samples: whether the ranks along the axis have to see the same
            samples; otherwise each has to see its own.

    Attributes:
        axis: as given.

    Raises:
        TypeError: `axis` is no Axis.
        PlanError: the mesh cuts the batch along the axis, or does not, against what the
            cell needs; or layerwise-parallel parameters do not differ along it.
    """

    def __init__(self, axis: Axis, *, sees_same_samples: bool) -> None:
        super().__init__()
        if not isinstance(axis, Axis):
            raise TypeError(
                f"axis is made by nn.parallel.open_axis(comm, mesh), not {axis!r}"
            )
        self._check_mesh(axis, sees_same_samples)
        self.axis = axis

    def _check_mesh(self, axis: Axis, sees_same_samples: bool) -> None:
        mesh, kind = axis.mesh, type(self).__name__
        if mesh.layerwise_axis != axis.name:
            raise PlanError(
                f"{kind} is cut along axis {axis.name!r}, but layerwise-parallel "
                f"parameters of {mesh!r} differ along {mesh.layerwise_axis!r}; say "
                f"Mesh(..., layerwise_axis={axis.name!r})"
            )
        if axis.size > 1 and sees_same_samples == axis.cuts_batch:
            needs = "the same" if sees_same_samples else "their own"
            others = [name for name in mesh.axes if name != axis.name]
            names = others if sees_same_samples else [*mesh.axes]
            raise PlanError(
                f"{kind}: ranks along axis {axis.name!r} have to see {needs} samples; "
                f"say Mesh(..., batch_axes={tuple(names)!r})"
            )

    def cut_parameter(
        self,
        init: Init,
        shape: tuple[int, ...],
        dtype: DType,
        *,
        name: str,
        dim: int = 0,
        what: str,
    ) -> Parameter:
        """Return a parameter that is this rank's slice of a whole one.

        Its values are those that one rank would draw for that slice.

        Args:
            init: law of the whole.
            shape: of the whole.
            dtype: element type.
            name: of the parameter.
            dim: which dim is cut.
            what: names that dim in errors.

        Raises:
            PlanError: the axis does not divide the dim.
        """
        part = self.axis.part_of(shape[dim], f"{type(self).__name__}: {what}")
        values = LazySlice(
            init, shape, dtype, dim=dim, start=part.start, stop=part.stop
        )
        cut = Parameter(values, name=name, layerwise_parallel=self.axis.size > 1)
        cut.slice_dim = dim
        return cut


def axes_of(net: object) -> tuple[Axis, ...]:
    """Return the axes that cells of a net are cut along, each once, in net order."""
    if not isinstance(net, Cell):
        return ()
    found = {
        id(cell.axis): cell.axis
        for _, cell in net.cells_and_names()
        if isinstance(cell, AxisCell)
    }
    return tuple(found.values())
