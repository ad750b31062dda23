"""Parameters, cells and layers, and optimizers and rates under MindSpore's names.

Optimizers and learning rates live in `parallel_params.optim`, which needs the cells;
they are looked up there when they are asked for.
"""

from typing import TYPE_CHECKING

from parallel_params.nn.cell import Cell
from parallel_params.nn.containers import CellList, SequentialCell
from parallel_params.nn.grad_reducer import DistributedGradReducer
from parallel_params.nn.layers.activation import (
    ELU,
    GELU,
    HSwish,
    LeakyReLU,
    LogSoftmax,
    Mish,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Tanh,
    get_activation,
)
from parallel_params.nn.layers.attention import MultiheadAttention, RotaryEmbedding
from parallel_params.nn.layers.basic import Dense, Dropout, Flatten, Identity
from parallel_params.nn.layers.batch_norm import BatchNorm1d, BatchNorm2d
from parallel_params.nn.layers.conv import Conv1d, Conv2d
from parallel_params.nn.layers.embedding import Embedding
from parallel_params.nn.layers.feed_forward import FeedForward, SwiGLU
from parallel_params.nn.layers.group_norm import GroupNorm
from parallel_params.nn.layers.norm import LayerNorm, RMSNorm
from parallel_params.nn.layers.pool import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AvgPool1d,
    AvgPool2d,
    MaxPool1d,
    MaxPool2d,
)
from parallel_params.nn.layers.transformer import (
    TransformerBlock,
    TransformerEncoderLayer,
)
from parallel_params.nn.loss import CrossEntropyLoss, MSELoss
from parallel_params.nn.parameter import Parameter, ParameterTuple
from parallel_params.nn.statistic import Statistic
from parallel_params.nn.unregistered import UnregisteredParameterWarning
from parallel_params.nn.wrap import TrainOneStepCell, WithLossCell

if TYPE_CHECKING:
    from parallel_params.optim import (
        EMA,
        FTRL,
        LARS,
        SGD,
        SOAP,
        Adadelta,
        AdaFactor,
        Adagrad,
        Adam,
        AdaMax,
        AdamW,
        AdamWeightDecay,
        CosineDecayLR,
        ExponentialDecayLR,
        InverseDecayLR,
        Lamb,
        LearningRateSchedule,
        Lion,
        Momentum,
        Muon,
        NAdam,
        NaturalExpDecayLR,
        Optimizer,
        PolynomialDecayLR,
        RAdam,
        RMSProp,
        Rprop,
        ScheduleFreeAdamW,
        WarmUpLR,
        cosine_decay_lr,
        exponential_decay_lr,
        inverse_decay_lr,
        natural_exp_decay_lr,
        piecewise_constant_lr,
        polynomial_decay_lr,
        warmup_lr,
    )

_OF_OPTIM = (
    "Optimizer",
    "SGD",
    "Momentum",
    "Adam",
    "AdamWeightDecay",
    "AdamW",
    "Lamb",
    "LARS",
    "AdaFactor",
    "Muon",
    "SOAP",
    "Adagrad",
    "Adadelta",
    "RMSProp",
    "Rprop",
    "FTRL",
    "AdaMax",
    "NAdam",
    "RAdam",
    "Lion",
    "ScheduleFreeAdamW",
    "EMA",
    "LearningRateSchedule",
    "CosineDecayLR",
    "ExponentialDecayLR",
    "InverseDecayLR",
    "NaturalExpDecayLR",
    "PolynomialDecayLR",
    "WarmUpLR",
    "cosine_decay_lr",
    "exponential_decay_lr",
    "inverse_decay_lr",
    "natural_exp_decay_lr",
    "piecewise_constant_lr",
    "polynomial_decay_lr",
    "warmup_lr",
)

__all__ = [
    "Parameter",
    "ParameterTuple",
    "Statistic",
    "Cell",
    "CellList",
    "SequentialCell",
    "UnregisteredParameterWarning",
    "Dense",
    "Dropout",
    "Flatten",
    "Identity",
    "Embedding",
    "LayerNorm",
    "RMSNorm",
    "GroupNorm",
    "MultiheadAttention",
    "RotaryEmbedding",
    "FeedForward",
    "SwiGLU",
    "TransformerBlock",
    "TransformerEncoderLayer",
    "Conv1d",
    "Conv2d",
    "MaxPool1d",
    "MaxPool2d",
    "AvgPool1d",
    "AvgPool2d",
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "ReLU",
    "GELU",
    "SiLU",
    "HSwish",
    "Mish",
    "LeakyReLU",
    "ELU",
    "Tanh",
    "Sigmoid",
    "Softmax",
    "LogSoftmax",
    "get_activation",
    "CrossEntropyLoss",
    "MSELoss",
    "WithLossCell",
    "TrainOneStepCell",
    "DistributedGradReducer",
    "Optimizer",
    "SGD",
    "Momentum",
    "Adam",
    "AdamWeightDecay",
    "AdamW",
    "Lamb",
    "LARS",
    "AdaFactor",
    "Muon",
    "SOAP",
    "Adagrad",
    "Adadelta",
    "RMSProp",
    "Rprop",
    "FTRL",
    "AdaMax",
    "NAdam",
    "RAdam",
    "Lion",
    "ScheduleFreeAdamW",
    "EMA",
    "LearningRateSchedule",
    "CosineDecayLR",
    "ExponentialDecayLR",
    "InverseDecayLR",
    "NaturalExpDecayLR",
    "PolynomialDecayLR",
    "WarmUpLR",
    "cosine_decay_lr",
    "exponential_decay_lr",
    "inverse_decay_lr",
    "natural_exp_decay_lr",
    "piecewise_constant_lr",
    "polynomial_decay_lr",
    "warmup_lr",
]


def __getattr__(name: str) -> object:
    if name not in _OF_OPTIM:
        raise AttributeError(f"parallel_params.nn has no {name!r}")
    from parallel_params import optim

    return getattr(optim, name)
