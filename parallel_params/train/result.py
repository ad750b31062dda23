"""How a run ended."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """How a run ended; but for the times the same on all ranks.

    Attributes:
        folder: of the run.
        num_steps: taken.
        loss: mean over the last batch, before its update.
        metric: what the scores are: accuracy, r2, bits_per_char.
        test_score: of the final weights.
        best_score: of the looks along the way, the last included.
        best_step: when that was.
        weights_hash: equal hashes mean equal bits of all weights.
        plan_digest: of the plan that was executed.
        samples_per_s: of the world, over the whole loop, looks included.
        seconds: of the loop.
    """

    folder: Path
    num_steps: int
    loss: float
    metric: str
    test_score: float
    best_score: float
    best_step: int
    weights_hash: str
    plan_digest: str
    samples_per_s: float
    seconds: float
