"""From the mesh that a job names to the mesh of a world, or a refusal with numbers.

What is cut along an axis is the models' business (`models/`); what a job alone says
about it is in `cut_lengths.py`, meshes that work are looked for in `near_meshes.py`.
"""

import math
from collections.abc import Mapping

from parallel_params.errors import ConfigError
from parallel_params.nn.parallel.axis import listed
from parallel_params.plan.mesh import Mesh
from parallel_params.train.config.job import Job
from parallel_params.train.config.models import ClassesModel, FunctionModel, GptModel
from parallel_params.train.config.rules import divisors
from parallel_params.train.cut_lengths import cut_lengths
from parallel_params.train.near_meshes import Search, written


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
    sizes = _filled(job, num_ranks, axis)
    if axis is not None:
        sizes[axis] = sizes.pop(axis)  # to the end, where ranks are neighbours
    mesh = Mesh(sizes, ranks_per_node=ranks_per_node, layerwise_axis=axis)
    check_cuts(job, mesh)
    return mesh


def check_cuts(job: Job, mesh: Mesh, num_outputs: int | None = None) -> None:
    """Refuse a mesh whose axis does not divide what the model is cut along.

    Args:
        job: what would be trained.
        mesh: of the world.
        num_outputs: words or classes of the data, once they were read.

    Raises:
        ConfigError: naming the axes and meshes that work.
    """
    axis = cut_axis_of(job, mesh)
    if axis is None:
        return
    size, lengths = mesh.group_size((axis,)), cut_lengths(job, num_outputs)
    wrong = {key: length for key, length in lengths.items() if length % size}
    if not wrong:
        return
    works = listed(divisors(math.gcd(*lengths.values())))
    ranks = "1 rank" if works == "1" else f"{works} ranks"
    remedy = nearest_meshes(job, mesh, num_outputs)
    raise ConfigError(
        [
            f"{key}: {length} cannot be cut into {size} equal parts along axis "
            f"{axis!r} of parallel.mesh; an axis of {ranks} works: {remedy}"
            for key, length in wrong.items()
        ]
    )


def nearest_meshes(job: Job, mesh: Mesh, num_outputs: int | None = None) -> str:
    """Say which meshes of as many ranks a job works on, or which worlds do.

    Args:
        job: which names its mesh.
        mesh: of the world, on which it does not work.
        num_outputs: words or classes of the data, once they were read.
    """
    sizes = dict(job.parallel.mesh or dict.fromkeys(mesh.axes, 0))
    search = Search(job, sizes, cut_axis_of(job, mesh), num_outputs)
    return search.remedy(mesh.size)


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
        f"mesh = {written({**mesh, axis: 2})}, or name one of its axes"
    )


def _filled(job: Job, num_ranks: int, axis: str | None) -> dict[str, int]:
    """Return the sizes with the open one filled in; they make up the world."""
    sizes = dict(job.parallel.mesh or {})
    open_axes = [name for name, size in sizes.items() if size == 0]
    known = math.prod(size for size in sizes.values() if size)
    if open_axes and num_ranks % known == 0:
        sizes[open_axes[0]] = num_ranks // known
    elif open_axes or known != num_ranks:
        raise ConfigError([_unfilled(job, known, num_ranks, axis)])
    return sizes


def _unfilled(job: Job, known: int, num_ranks: int, axis: str | None) -> str:
    sizes = dict(job.parallel.mesh or {})
    what = "a multiple of " if 0 in sizes.values() else ""
    return (
        f"parallel.mesh: {written(sizes)} is of {what}{known} ranks and the world has "
        f"{num_ranks}; {Search(job, sizes, axis).remedy(num_ranks)}"
    )
