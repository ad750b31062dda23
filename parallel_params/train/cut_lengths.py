"""What the axis of a mesh has to divide, as far as a job alone says it."""

from parallel_params.nn.layers.feed_forward import hidden_width
from parallel_params.train.config.data import ClustersData, TokensData
from parallel_params.train.config.job import Job
from parallel_params.train.config.models import ClassesModel, GptModel


def cut_lengths(job: Job, num_outputs: int | None = None) -> dict[str, int]:
    """Return the lengths that the axis of a model has to divide, by deciding key.

    Args:
        job: what would be trained.
        num_outputs: words or classes of the data, once they were read.
    """
    model, data = job.model, job.data
    if isinstance(model, GptModel):
        words = data.vocabulary if isinstance(data, TokensData) else num_outputs
        return gpt_lengths(model, words if model.cut_words else None)
    if isinstance(model, ClassesModel) and isinstance(data, ClustersData):
        return {"data.classes": data.classes}
    if isinstance(model, ClassesModel) and num_outputs is not None:
        return {"data: the classes": num_outputs}
    return {}


def gpt_lengths(model: GptModel, num_words: int | None = None) -> dict[str, int]:
    """Return the same of a transformer.

    Args:
        model: its table.
        num_words: of the vocabulary, if it is cut as well.
    """
    if model.experts is not None:
        return {"model.experts.num": model.experts.num}
    hidden = hidden_width(model.width, is_gated=model.activation == "swiglu")
    lengths = {"model.heads": model.heads}
    if model.kv_heads is not None:
        lengths["model.kv_heads"] = model.kv_heads
    lengths["model.hidden"] = model.hidden or hidden
    if num_words is not None:
        lengths["model.cut_words: the vocabulary"] = num_words
    return lengths
