"""From the mesh that a job names to the mesh of a world, or a refusal with numbers.

What is cut along an axis is the models' business (`models/`); here only the ranks are
counted.
"""

import math
from collections.abc import Iterator, Mapping
from itertools import islice

from parallel_params.errors import ConfigError
from parallel_params.plan.mesh import Mesh
from parallel_params.train.config.job import Job, Parallel
from parallel_params.train.config.models import ClassesModel, FunctionModel, GptModel
from parallel_params.train.config.rules import divisors

_MOST_NAMED = 4


def cut_axis_of(job: Job, mesh: Mesh) -> str | None:
    """Return the axis of its mesh that cells of the job's model are cut along, if any.

    Layerwise-parallel parameters differ along it.
    """
    wanted = _wanted_axis(job)
    return wanted if wanted in mesh.axes else None


def job_mesh(job: Job, num_ranks: int, ranks_per_node: int | None = None) -> Mesh:
    """Return the mesh of a job in a world of `num_ranks`.

    The axis that the model is cut along runs fastest, so its ranks are neighbours.

    Raises:
        ConfigError: the mesh does not fill the world, or the model has nothing that can
            be cut along its axis; naming meshes that work.
    """
    parallel = job.parallel
    wanted = _wanted_axis(job)
    if parallel.mesh is None:
        if wanted == "model":
            return Mesh(data=num_ranks, ranks_per_node=ranks_per_node)
        sizes = {"data": num_ranks, wanted: 1}
        return Mesh(sizes, ranks_per_node=ranks_per_node, layerwise_axis=wanted)
    _check_axes(job)
    axis = wanted if wanted in parallel.mesh else None
    sizes = _filled(parallel, num_ranks, axis)
    if axis is not None:
        sizes[axis] = sizes.pop(axis)  # to the end, where ranks are neighbours
    return Mesh(sizes, ranks_per_node=ranks_per_node, layerwise_axis=axis)


def nearest_meshes(sizes: Mapping[str, int], num_ranks: int, *, keep: str) -> str:
    """Name meshes of a world, those that leave the axis `keep` as it is first."""
    others = [name for name in sizes if name != keep]
    found = list(islice(_meshes(sizes, num_ranks, keep, others), _MOST_NAMED))
    return " or ".join(_written(each) for each in found)


def _meshes(
    sizes: Mapping[str, int], num_ranks: int, keep: str, others: list[str]
) -> Iterator[dict[str, int]]:
    wanted = sizes.get(keep, 1)
    near = sorted(divisors(num_ranks), key=lambda n: (abs(n - wanted), n))
    for number in near if others else [num_ranks]:
        left = num_ranks // number
        mesh = dict.fromkeys(sizes, 1) | {keep: number}
        if others:
            mesh[others[0]] = left
        yield mesh


def _wanted_axis(job: Job) -> str:
    return job.parallel.layerwise_axis or _axis_of_model(job)


def _axis_of_model(job: Job) -> str:
    model = job.model
    if isinstance(model, ClassesModel):
        return model.axis
    if isinstance(model, GptModel) and model.experts is not None:
        return model.experts.axis
    return "model"


def _check_axes(job: Job) -> None:
    """Refuse axes whose ranks would all do the same, and axes that are missing."""
    mesh, model = job.parallel.mesh or {}, job.model
    problems = []
    is_private = any(entry.layerwise_parallel for entry in job.parallel.override)
    is_cuttable = isinstance(model, ClassesModel | GptModel | FunctionModel)
    own = _axis_of_model(job)
    if "model" in mesh and not is_private and (not is_cuttable or own != "model"):
        problems.append(
            f"parallel.mesh: nothing of model.kind = {model.kind!r} is cut along axis "
            f"'model', so its {mesh['model']} ranks would do the same work; call the "
            "axis otherwise and it cuts the batch, as in mesh = { data = 0 }"
        )
    if own not in mesh and isinstance(model, ClassesModel):
        problems.append(_missing("model.axis", own, mesh))
    experts = model.experts if isinstance(model, GptModel) else None
    if experts is not None and own not in mesh:
        problems.append(_missing("model.experts.axis", own, mesh))
    layerwise = job.parallel.layerwise_axis
    if layerwise is not None and layerwise not in mesh:
        problems.append(_missing("parallel.layerwise_axis", layerwise, mesh))
    if problems:
        raise ConfigError(problems)


def _missing(key: str, axis: str, mesh: Mapping[str, int]) -> str:
    return (
        f"{key}: parallel.mesh has no axis {axis!r}, it has {', '.join(mesh)}; say "
        f"mesh = {_written({**mesh, axis: 2})}, or name one of its axes"
    )


def _filled(parallel: Parallel, num_ranks: int, axis: str | None) -> dict[str, int]:
    """Return the sizes with the open one filled in; they make up the world."""
    sizes = dict(parallel.mesh or {})
    open_axes = [name for name, size in sizes.items() if size == 0]
    known = math.prod(size for size in sizes.values() if size)
    if open_axes and num_ranks % known == 0:
        sizes[open_axes[0]] = num_ranks // known
    elif open_axes or known != num_ranks:
        raise ConfigError([_unfilled(sizes, known, num_ranks, axis)])
    return sizes


def _unfilled(
    sizes: Mapping[str, int], known: int, num_ranks: int, axis: str | None
) -> str:
    is_open = 0 in sizes.values()
    what = "a multiple of " if is_open else ""
    keep = axis if axis is not None else next(iter(sizes))
    near = nearest_meshes(sizes, num_ranks, keep=keep)
    worlds = f"{known} ranks"
    if is_open:
        above = -(-num_ranks // known) * known
        below = above - known
        worlds = f"{f'{below} or ' if below else ''}{above} ranks"
    return (
        f"parallel.mesh: {_written(sizes)} is of {what}{known} ranks and the world has "
        f"{num_ranks}; the nearest meshes of {num_ranks} are {near}, or start {worlds}"
    )


def _written(sizes: Mapping[str, int]) -> str:
    return "{ " + ", ".join(f"{name} = {size}" for name, size in sizes.items()) + " }"
