"""Optimizers: rules on flat slices, and the cells that bind them to parameters.

`nn` has the optimizers too. `check_rule`, which tries the laws of rules, needs managers
and lives in `parallel_params.testing`; it is looked up there when it is asked for.
"""

from typing import TYPE_CHECKING

from parallel_params.optim import schedules
from parallel_params.optim.adafactor import AdaFactor
from parallel_params.optim.adagrad import Adadelta, Adagrad, RMSProp
from parallel_params.optim.adam import Adam, AdamW, AdamWeightDecay
from parallel_params.optim.adam_kin import AdaMax, NAdam, RAdam
from parallel_params.optim.averaging import EMA, ScheduleFreeAdamW
from parallel_params.optim.dynamic_lr import (
    cosine_decay_lr,
    exponential_decay_lr,
    inverse_decay_lr,
    natural_exp_decay_lr,
    piecewise_constant_lr,
    polynomial_decay_lr,
    warmup_lr,
)
from parallel_params.optim.ftrl import FTRL
from parallel_params.optim.kinds import round_widths, slots_of
from parallel_params.optim.layerwise import LARS, Lamb
from parallel_params.optim.lr_cells import (
    CosineDecayLR,
    ExponentialDecayLR,
    InverseDecayLR,
    LearningRateSchedule,
    NaturalExpDecayLR,
    PolynomialDecayLR,
    WarmUpLR,
)
from parallel_params.optim.muon import Muon
from parallel_params.optim.optimizer import Optimizer
from parallel_params.optim.plateau import Plateau
from parallel_params.optim.rule import (
    AnyRule,
    EvaluatedRule,
    Part,
    RoundRule,
    Rule,
    ShapedRule,
    Slots,
    state_dtype,
)
from parallel_params.optim.rules.adafactor import AdafactorRule
from parallel_params.optim.rules.adagrad import AdadeltaRule, AdagradRule
from parallel_params.optim.rules.adam import AdamRule, AdamWeightDecayRule, AdamWRule
from parallel_params.optim.rules.adamax import AdaMaxRule
from parallel_params.optim.rules.amsgrad import AmsGradRule
from parallel_params.optim.rules.average import (
    AveragedRoundRule,
    AveragedRule,
    Averaging,
)
from parallel_params.optim.rules.ftrl import FtrlRule
from parallel_params.optim.rules.lamb import LambRule
from parallel_params.optim.rules.lars import LarsRule
from parallel_params.optim.rules.lion import LionRule
from parallel_params.optim.rules.muon import MuonRule
from parallel_params.optim.rules.nadam import NAdamRule
from parallel_params.optim.rules.radam import RAdamRule
from parallel_params.optim.rules.rmsprop import RmsPropRule
from parallel_params.optim.rules.rprop import RpropRule
from parallel_params.optim.rules.schedule_free import ScheduleFreeAdamWRule
from parallel_params.optim.rules.sgd import MomentumRule, SgdRule
from parallel_params.optim.rules.soap import SoapRule
from parallel_params.optim.settings import Settings
from parallel_params.optim.sgd import SGD, Momentum
from parallel_params.optim.signs import Lion, Rprop
from parallel_params.optim.soap import SOAP

if TYPE_CHECKING:
    from parallel_params.testing import check_rule

__all__ = [
    "check_rule",
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
    "schedules",
    "Plateau",
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
    "Rule",
    "RoundRule",
    "ShapedRule",
    "AnyRule",
    "EvaluatedRule",
    "Part",
    "Slots",
    "slots_of",
    "round_widths",
    "SgdRule",
    "MomentumRule",
    "AdamRule",
    "AdamWeightDecayRule",
    "AdamWRule",
    "LambRule",
    "LarsRule",
    "AdafactorRule",
    "MuonRule",
    "SoapRule",
    "AdagradRule",
    "AdadeltaRule",
    "RmsPropRule",
    "RpropRule",
    "FtrlRule",
    "AmsGradRule",
    "AdaMaxRule",
    "NAdamRule",
    "RAdamRule",
    "LionRule",
    "ScheduleFreeAdamWRule",
    "AveragedRule",
    "AveragedRoundRule",
    "Averaging",
    "Settings",
    "state_dtype",
]


def __getattr__(name: str) -> object:
    if name != "check_rule":
        raise AttributeError(f"parallel_params.optim has no {name!r}")
    from parallel_params.testing import check_rule

    return check_rule
