"""What the axis of a mesh has to divide, as far as a job alone says it."""

import math
from collections.abc import Mapping

from parallel_params.train.config.data import ClustersData
from parallel_params.train.config.job import Job
from parallel_params.train.config.models import ClassesModel, GptModel


def cut_lengths(job: Job) -> dict[str, int]:
    """Return the lengths that the axis of a model has to divide, by deciding key."""
    if isinstance(job.model, GptModel):
        return gpt_lengths(job.model)
    if isinstance(job.model, ClassesModel) and isinstance(job.data, ClustersData):
        return {"data.classes": job.data.classes}
    return {}


def gpt_lengths(model: GptModel) -> dict[str, int]:
    """Return the same of a transformer, but for a vocabulary that is cut."""
    if model.experts is not None:
        return {"model.experts.num": model.experts.num}
    is_gated = model.activation == "swiglu"
    hidden = -(-8 * model.width // 24) * 8 if is_gated else 4 * model.width
    lengths = {"model.heads": model.heads}
    if model.kv_heads is not None:
        lengths["model.kv_heads"] = model.kv_heads
    return lengths | {"model.hidden": model.hidden or hidden}


def is_workable(job: Job, sizes: Mapping[str, int], axis: str | None) -> bool:
    """Tell whether a job can be cut, and its batch shared, on a mesh of these sizes.

    Args:
        job: what would be trained.
        sizes: of every axis.
        axis: along which the model is cut, if it is.
    """
    size = sizes.get(axis, 1) if axis is not None else 1
    shares = math.prod(number for name, number in sizes.items() if name != "model")
    parts = job.parallel.grains or job.data.batch // job.train.accumulate
    is_cut = all(length % size == 0 for length in cut_lengths(job).values())
    return is_cut and parts % shares == 0
