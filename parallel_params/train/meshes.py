"""From the mesh that a job names to the mesh of a world, or a refusal with numbers.

What is cut along an axis is the models' business (`models/`); what a job alone says
about it is in `cut_lengths.py`, and here the ranks are counted.
"""

import math
from collections.abc import Iterator, Mapping
from itertools import islice

from parallel_params.errors import ConfigError
from parallel_params.nn.parallel.axis import listed
from parallel_params.plan.mesh import Mesh
from parallel_params.train.config.job import Job
from parallel_params.train.config.models import ClassesModel, FunctionModel, GptModel
from parallel_params.train.config.rules import divisors
from parallel_params.train.cut_lengths import cut_lengths, is_workable

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
    sizes = _filled(job, num_ranks, axis)
    if axis is not None:
        _check_cuts(job, sizes, axis)
        sizes[axis] = sizes.pop(axis)  # to the end, where ranks are neighbours
    return Mesh(sizes, ranks_per_node=ranks_per_node, layerwise_axis=axis)


def _nearest(
    job: Job, sizes: Mapping[str, int], num_ranks: int, axis: str | None
) -> str:
    """Name meshes of a world that work, those that cut the model as asked for first."""
    keep = axis if axis is not None else next(iter(sizes))
    others = [name for name in sizes if name != keep]
    meshes = _meshes(sizes, num_ranks, keep, others)
    works = (each for each in meshes if is_workable(job, each, axis))
    return " or ".join(_written(each) for each in islice(works, _MOST_NAMED))


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


def _check_cuts(job: Job, sizes: Mapping[str, int], axis: str) -> None:
    """Refuse an axis that does not divide what the job says is cut along it."""
    lengths = cut_lengths(job)
    common, num_ranks = math.gcd(*lengths.values()), math.prod(sizes.values())
    near = _nearest(job, sizes, num_ranks, axis)
    on = f", on {num_ranks} ranks {_mesh_of(near)}{near}" if near else ""
    problems = [
        f"{key}: {length} cannot be cut into {sizes[axis]} equal parts along axis "
        f"{axis!r} of parallel.mesh; axes of {listed(divisors(common))} ranks "
        f"work{on}"
        for key, length in lengths.items()
        if length % sizes[axis]
    ]
    if problems:
        raise ConfigError(problems)


def _mesh_of(near: str) -> str:
    return "the meshes " if " or " in near else "the mesh "


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
    near = _nearest(job, sizes, num_ranks, axis)
    worlds = _worlds(job, sizes, known, num_ranks, axis)
    remedies = []
    if near:
        are = "meshes of {} are" if " or " in near else "mesh of {} is"
        remedies.append(f"the nearest {are.format(num_ranks)} {near}")
    if worlds:
        starts = " or ".join(map(str, worlds))
        remedies.append(f"start {starts} {'rank' if worlds == [1] else 'ranks'}")
    if not remedies:
        smaller = range(num_ranks - 1, 0, -1)
        found = ((n, _nearest(job, sizes, n, axis)) for n in smaller)
        remedies = [f"start {n} ranks with {each}" for n, each in found if each][:1]
    none = "" if near else f"no mesh of {num_ranks} works; "
    return (
        f"parallel.mesh: {_written(sizes)} is of {what}{known} ranks and the world has "
        f"{num_ranks}; {none}{', or '.join(remedies)}"
    )


def _worlds(
    job: Job, sizes: Mapping[str, int], known: int, num_ranks: int, axis: str | None
) -> list[int]:
    """Return the nearest worlds that the mesh would fill and that work, in order."""

    def works(multiple: int) -> bool:
        filled = {name: size or multiple for name, size in sizes.items()}
        return is_workable(job, filled, axis)

    if 0 not in sizes.values():
        return [known] if works(1) else []
    middle = num_ranks // known
    below = [n for n in range(middle, 0, -1) if works(n)][:1]
    above = [n for n in range(middle + 1, 2 * middle + 5) if works(n)][:1]
    return [n * known for n in below + above]


def _written(sizes: Mapping[str, int]) -> str:
    return "{ " + ", ".join(f"{name} = {size}" for name, size in sizes.items()) + " }"
