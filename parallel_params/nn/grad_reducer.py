"""`DistributedGradReducer`: gradients averaged over ranks, for functional scripts.

For scripts that compute gradients with `value_and_grad` and call an optimizer with
them. It moves whole gradients; `ParameterManager` cuts state and weights as well.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from parallel_params.comm.agree import agree_ok, first_difference, odd_ranks
from parallel_params.comm.protocol import Communicator
from parallel_params.comm.world import init
from parallel_params.errors import PlanError, PlanMismatch
from parallel_params.nn.cell import Cell
from parallel_params.nn.parameter import Parameter, ParameterTuple
from parallel_params.plan.interval import even_split
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.place import reduced_axes
from parallel_params.tensor.row_sums import tree_sum_rows
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor


@dataclass(frozen=True, slots=True)
class _Bucket:
    """What travels together: the ranks' axes, the type of the sums, a fusion number."""

    axes: tuple[str, ...]
    dtype: str
    fusion: tuple[int, int]


class DistributedGradReducer(Cell):
    """Sums or averages gradients over ranks, as the flags of their parameters say.

    Gradients of `layerwise_parallel` parameters come back as they are: they are the
    rank's own. In a mesh with further axes they are reduced along those. Everything
    else, frozen parameters too, is reduced over all ranks. Sums are made in
    float32, or in the gradient's own type if that is wider, in one fixed tree over the
    ranks: the same bits at every call and over every transport.

    Args:
        parameters: whose gradients will come, in that order, the same on all ranks.
        mean: divide by the degree; None is False, a sum, as in MindSpore.
        degree: what a mean divides by; by default the number of ranks that are added.
        fusion_type: 0 sends every gradient by itself; else those whose parameters have
            one `comm_fusion` number, not 0, travel together. Results do not change.
        group: the ranks; the world by default. `comm.group(ranks)` makes a part of it.
        mesh: names the axes of the group; one axis `data` by default.

    Raises:
        TypeError: `parameters` are none, or `mean` is neither a bool nor None.
        ValueError: `degree` is no number from 1, or `fusion_type` none from 0.
        PlanError: the mesh has another number of ranks than the group.
        PlanMismatch: the ranks made it of different parameters or arguments.
        RankFailed: another rank could not make it.

    Collective: all ranks of the group, to make it and to call it.
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        mean: bool | None = None,
        degree: int | None = None,
        fusion_type: int = 1,
        group: Communicator | None = None,
        *,
        mesh: Mesh | None = None,
    ) -> None:
        super().__init__(auto_prefix=False)
        comm = group if group is not None else init()
        mesh = mesh if mesh is not None else Mesh(data=comm.size)
        error: Exception | None = None
        members: tuple[Parameter, ...] = ()
        try:
            members = tuple(ParameterTuple(parameters))
            _check(mean, degree, fusion_type, mesh, comm.size)
        except Exception as raised:
            error = raised
        agree_ok(comm, error)
        # Not attributes of a Cell: they are somebody else's parameters.
        object.__setattr__(self, "_members", members)
        self._comm, self._mesh, self._degree = comm, mesh, degree
        self._is_mean, self._fusion_type = bool(mean), fusion_type
        self._groups: dict[tuple[str, ...], Communicator] = {mesh.axes: comm}
        choices = f"mean={mean}, degree={degree}, fusion_type={fusion_type}, {mesh!r}"
        _agree(comm, [choices, *map(_facts, members)])
        own = (mesh.layerwise_axis,) if mesh.layerwise_axis is not None else ()
        rest = mesh.others(own)
        self._opened: list[Communicator] = [] if group is not None else [comm]
        self._is_closed = False
        if 1 < mesh.group_size(rest) < mesh.size:
            self._groups[rest] = comm.group(mesh.group(comm.rank, rest))
            self._opened.insert(0, self._groups[rest])

    def close(self) -> None:
        """Free the communicators that were opened here; it reduces nothing any more.

        A given `group` stays open, it is the caller's. Without `close` they live until
        MPI ends, which matters where many reducers are made; so `with` closes too.

        Collective: all ranks of the group.
        """
        self._is_closed = True
        for comm in self._opened:
            comm.close()
        self._opened.clear()

    def __enter__(self) -> "DistributedGradReducer":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:  # else the others may be anywhere, and freeing could hang
            self.close()

    def construct(self, gradients: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the reduced gradients; those that are the rank's own are the same.

        Flags are read at every call, so they may change in between, on all ranks.

        Args:
            gradients: one for each parameter, of its shape, real and floating.

        Returns:
            New tensors of the types that came.

        Raises:
            RuntimeError: no tuple, or one of another length; or it was closed.
            TypeError: a gradient is no tensor, or not of floating-point numbers.
            ValueError: one has another shape than its parameter.
            PlanError: the mesh names no axis along which layerwise gradients differ.
            PlanMismatch: types or flags are not the same on all ranks.
            RankFailed: another rank raised one of these.

        Collective: all ranks of the group.
        """
        if self._is_closed:
            raise RuntimeError(
                "this DistributedGradReducer was closed; make another one, or close it "
                "behind the last step"
            )
        error: Exception | None = None
        buckets: dict[_Bucket, list[int]] = {}
        try:
            self._check_gradients(gradients)
            for index, gradient in enumerate(gradients):
                buckets.setdefault(self._bucket_of(index, gradient), []).append(index)
        except Exception as raised:
            error = raised
        agree_ok(self._comm, error)
        if self._comm.size > 1:
            both = zip(self._members, gradients, strict=True)
            _agree(
                self._comm, [f"{_facts(p)}, a gradient of {g.dtype}" for p, g in both]
            )
        reduced = list(gradients)
        for bucket, indices in buckets.items():
            if self._mesh.group_size(bucket.axes) == 1:
                continue
            arrays = [gradients[index]._array for index in indices]
            for index, array in zip(indices, self._reduce(bucket, arrays), strict=True):
                reduced[index] = Tensor.wrap(array)
        return tuple(reduced)

    def _bucket_of(self, index: int, gradient: Tensor) -> _Bucket:
        member = self._members[index]
        is_alone = self._fusion_type == 0 or member.comm_fusion == 0
        fusion = (0, index) if is_alone else (member.comm_fusion, -1)
        dtype = gradient._array.dtype
        return _Bucket(
            reduced_axes(
                member.name,
                self._mesh,
                layerwise_parallel=member.layerwise_parallel,
            ),
            dtype.name if dtype.itemsize > 4 else "float32",
            fusion,
        )

    def _reduce(self, bucket: _Bucket, arrays: Sequence[Array]) -> list[Array]:
        """Sum arrays that travel together; return them in their own types."""
        comm = self._groups[bucket.axes]
        flat = np.concatenate(
            [array.reshape(-1) for array in arrays], dtype=bucket.dtype
        )
        pieces = even_split(flat.size, comm.size)
        counts, own = [piece.numel for piece in pieces], pieces[comm.rank]
        rows = np.empty((comm.size, own.numel), flat.dtype)
        comm.all_to_all(flat, counts, rows.reshape(-1), (own.numel,) * comm.size)
        total = tree_sum_rows(rows)
        if self._is_mean:
            degree = self._degree if self._degree is not None else comm.size
            np.multiply(total, np.asarray(1.0 / degree, flat.dtype), total)
        flat[own.as_slice()] = total
        comm.all_gather(flat, counts)
        ends = np.cumsum([array.size for array in arrays])[:-1]
        with np.errstate(over="ignore"):  # a sum may exceed what 16 bits hold: inf
            return [
                part.reshape(array.shape).astype(array.dtype)
                for part, array in zip(np.split(flat, ends), arrays, strict=True)
            ]

    def _check_gradients(self, gradients: object) -> None:
        if not isinstance(gradients, tuple):
            raise RuntimeError(
                f"gradients come as a tuple, as value_and_grad gives them, not as "
                f"{type(gradients).__name__}"
            )
        if len(gradients) != len(self._members):
            raise RuntimeError(
                f"{len(gradients)} gradients for {len(self._members)} parameters; pass "
                "one for each parameter that the reducer was made of"
            )
        for member, gradient in zip(self._members, gradients, strict=True):
            if not isinstance(gradient, Tensor):
                kind = type(gradient).__name__
                raise TypeError(f"{member.name}: the gradient is a {kind}, no Tensor")
            if gradient.shape != member.shape:
                raise ValueError(
                    f"{member.name}: the gradient has shape {gradient.shape}, the "
                    f"parameter {member.shape}"
                )
            if not gradient.dtype.is_float:
                raise TypeError(
                    f"{member.name}: a gradient of {gradient.dtype} would be cut to "
                    "whole numbers by a mean; pass floating-point numbers"
                )


def _facts(parameter: Parameter) -> str:
    return (
        f"parameter {parameter.name!r} of {parameter.shape}, "
        f"layerwise_parallel={parameter.layerwise_parallel}, "
        f"comm_fusion={parameter.comm_fusion}"
    )


def _agree(comm: Communicator, facts: Sequence[str]) -> None:
    """Make sure that all ranks are about to reduce the same.

    Collective: all ranks of the group.
    """
    digest = hashlib.blake2b("\n".join(facts).encode(), digest_size=16).digest()
    if not odd_ranks(comm.all_gather_bytes(digest)):
        return
    difference = first_difference(comm, facts)
    raise PlanMismatch(
        f"DistributedGradReducer is not the same on all ranks: {difference}. Give "
        "every rank the same parameters, flags and types."
    )


def _check(
    mean: object, degree: object, fusion_type: object, mesh: Mesh, num_ranks: int
) -> None:
    if mean is not None and type(mean) is not bool:
        raise TypeError(f"mean: expected True, False or None, got {mean!r}")
    if degree is not None and (type(degree) is not int or degree < 1):
        raise ValueError(f"degree: expected a whole number from 1, got {degree!r}")
    if type(fusion_type) is not int or fusion_type < 0:
        raise ValueError(f"fusion_type: expected a number from 0, got {fusion_type!r}")
    if mesh.size != num_ranks:
        raise PlanError(f"{mesh!r} has {mesh.size} ranks, the group has {num_ranks}")
