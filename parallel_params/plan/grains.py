"""Grains: equal slices of the global batch, the leaves of the reduction tree.

Says how many there are and who can share them; it sums nothing.
"""

from parallel_params.errors import PlanError
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.policy import Policy
from parallel_params.plan.text import name_some

_MOST_WORLDS_TRIED = 4096


def resolve_grains(mesh: Mesh, policy: Policy) -> int:
    """Return the number of grains; fast reduction takes a rank's share as one."""
    if policy.grains is None or policy.reduction == "fast":
        return mesh.size
    return policy.grains


def check_grains(mesh: Mesh, policy: Policy) -> None:
    """Refuse grains that the ranks cannot share equally.

    Raises:
        PlanError: naming the nearest grains and the world sizes that work.
    """
    grains, num_ranks = resolve_grains(mesh, policy), mesh.size
    if grains % num_ranks:
        below = grains - grains % num_ranks
        good = [str(g) for g in (below, below + num_ranks) if g]
        sizes = range(1, min(grains, _MOST_WORLDS_TRIED) + 1)
        worlds = [str(n) for n in sizes if grains % n == 0]
        raise PlanError(
            f"policy.grains = {grains} cannot be shared equally by {num_ranks} ranks. "
            f"Use grains = {' or '.join(good)}, or a world of "
            f"{name_some(worlds, most=12)} ranks"
        )
