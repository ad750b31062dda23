"""The [outer] table: private steps, and every so often one step on all ranks."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import ConfigDict

from parallel_params.train.config.limits import STRICT, Count, MaybeBeta, Positive


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    """LocalSGD and DiLoCo: workers train by themselves and meet every so often."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    every: Count | None = None
    """Steps between two outer steps; without it ranks reduce at every step."""
    workers: Count | None = None
    """How many there are; by default every rank is one."""
    lr: Positive = 0.7
    """Learning rate of the outer step; 1 without momentum averages the weights."""
    momentum: MaybeBeta = 0.9
    """Nesterov's momentum of the outer step; 0 for none."""
    level: Literal[0, 1, 2] = 1
    """As parallel.level, for the outer step; parallel.level is for one worker's."""


EVERY_STEP = Outer()
"""No outer loop."""
