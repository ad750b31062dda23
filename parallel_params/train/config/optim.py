"""The [optim] table: an optimizer by its name.

The tables themselves are in `optimizers.py`, `adams.py` and `schedules.py`;
`train/optimizers.py` makes optimizers of them.
"""

from typing import Annotated, TypeAlias

from pydantic import Field

from parallel_params.train.config.adams import (
    AdaMaxOptim,
    AdamOptim,
    AdamWeightDecayOptim,
    AdamWOptim,
    NAdamOptim,
    RAdamOptim,
    ScheduleFreeOptim,
)
from parallel_params.train.config.optim_common import CommonOptim
from parallel_params.train.config.optimizers import (
    AdadeltaOptim,
    AdaFactorOptim,
    AdagradOptim,
    FtrlOptim,
    LambOptim,
    LarsOptim,
    LionOptim,
    MomentumOptim,
    MuonOptim,
    RmsPropOptim,
    RpropOptim,
    SgdOptim,
    SoapOptim,
)
from parallel_params.train.config.schedules import (
    ConstantSchedule,
    CosineSchedule,
    LinearSchedule,
    Schedule,
)

__all__ = [
    "Optim",
    "CommonOptim",
    "Schedule",
    "ConstantSchedule",
    "CosineSchedule",
    "LinearSchedule",
    "SgdOptim",
    "MomentumOptim",
    "AdamOptim",
    "AdamWOptim",
    "AdamWeightDecayOptim",
    "AdaMaxOptim",
    "NAdamOptim",
    "RAdamOptim",
    "AdagradOptim",
    "AdadeltaOptim",
    "RmsPropOptim",
    "RpropOptim",
    "FtrlOptim",
    "LionOptim",
    "LambOptim",
    "LarsOptim",
    "AdaFactorOptim",
    "MuonOptim",
    "SoapOptim",
    "ScheduleFreeOptim",
]

Optim: TypeAlias = Annotated[
    SgdOptim
    | MomentumOptim
    | AdamOptim
    | AdamWOptim
    | AdamWeightDecayOptim
    | AdaMaxOptim
    | NAdamOptim
    | RAdamOptim
    | AdagradOptim
    | AdadeltaOptim
    | RmsPropOptim
    | RpropOptim
    | FtrlOptim
    | LionOptim
    | LambOptim
    | LarsOptim
    | AdaFactorOptim
    | MuonOptim
    | SoapOptim
    | ScheduleFreeOptim,
    Field(discriminator="name"),
]
