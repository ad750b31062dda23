"""From a [model] table of kind gpt to one of the transformers, if it can be built."""

from parallel_params.errors import ConfigError
from parallel_params.nn.parallel import Axis
from parallel_params.train.config.models import GptModel
from parallel_params.train.data.dataset import Interface
from parallel_params.train.models.gpt import Gpt
from parallel_params.train.models.gpt_cut import CutGpt, CutWordsGpt
from parallel_params.train.models.gpt_experts import ExpertsGpt


def build_gpt(model: GptModel, interface: Interface, axis: Axis | None = None) -> Gpt:
    """Build the transformer of a job.

    Args:
        model: its [model] table.
        interface: of its data.
        axis: along which it is cut; None for a whole one.

    Raises:
        ConfigError: the samples are no words, the heads do not fit the width, or
            there is no axis to cut the words along.
        PlanError: the axis does not divide what is cut along it.
    """
    if not interface.is_text:
        problem = 'model.kind: "gpt" takes words, and the data are numbers; use "mlp"'
        raise ConfigError([problem])
    problems = _own_problems(model)
    if model.cut_words and axis is None:
        problems.append(
            "model.cut_words: there is no axis to cut along; say parallel.mesh = "
            "{ data = 0, model = 2 }"
        )
    if problems:
        raise ConfigError(problems)
    context, vocabulary = interface.sample_shape[0], interface.num_outputs
    if axis is None:
        return Gpt(model, context, vocabulary)
    if model.experts is not None:
        return ExpertsGpt(model, context, vocabulary, axis)
    kind = CutWordsGpt if model.cut_words else CutGpt
    return kind(model, context, vocabulary, axis)


def describe_gpt(model: GptModel, interface: Interface) -> str:
    """Write it in a word and its sizes: gpt 4x96, 4 heads, vocabulary 103, ..."""
    words = f"vocabulary {interface.num_outputs}, context {interface.sample_shape[0]}"
    experts = f", {model.experts.num} experts" if model.experts is not None else ""
    return f"gpt {model.layers}x{model.width}, {model.heads} heads{experts}, {words}"


def _own_problems(model: GptModel) -> list[str]:
    kv_heads = model.kv_heads or model.heads
    problems = []
    if model.width % model.heads:
        problems.append(
            f"model.heads: {model.heads} heads cannot share a width of {model.width} "
            "evenly"
        )
    if model.heads % kv_heads:
        problems.append(
            f"model.kv_heads: {kv_heads} cannot serve {model.heads} heads evenly"
        )
    if model.positions == "rotary" and model.width // model.heads % 2:
        problems.append(
            f'model.positions: "rotary" turns pairs, and a head has an odd width, '
            f"{model.width // model.heads}"
        )
    if model.experts is not None and model.activation == "swiglu":
        problems.append(
            'model.activation: "swiglu" has a gate and experts have none; use "gelu", '
            '"relu" or "silu"'
        )
    if model.experts is not None and model.experts.top_k > model.experts.num:
        problems.append(
            f"model.experts.top_k: {model.experts.top_k} of {model.experts.num} experts"
        )
    return problems
