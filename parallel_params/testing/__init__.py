"""Tests for what users write themselves: an optimizer rule, so far.

Nothing else of the package needs this.
"""

from parallel_params.testing.check import LawReport, check_rule
from parallel_params.testing.laws import LAWS

__all__ = ["check_rule", "LawReport", "LAWS"]
