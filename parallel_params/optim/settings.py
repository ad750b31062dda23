"""What a rule has to know of one parameter, besides the arrays."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Parameters with equal settings can be updated by one call of the rule."""

    group: int
    """Which of the optimizer's learning rates holds."""
    weight_decay: float
    """0 where none is wanted."""
    grad_centralization: bool = False
    """Always False so far; see `groups.py`."""
    since: int = 0
    """How many steps had been taken before the state of the parameter began."""
    is_adapted: bool = True
    """False where the optimizer's filter leaves a parameter out (`LARS`)."""
