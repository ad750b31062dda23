"""Training with an outer loop: private steps, and every so often one step on all."""

from parallel_params.outer.anchors import averaging, diloco
from parallel_params.outer.checkpointer import OuterCheckpointer
from parallel_params.outer.loop import OuterLoop
from parallel_params.plan.outer import OuterPlan

__all__ = ["OuterCheckpointer", "OuterLoop", "OuterPlan", "averaging", "diloco"]
