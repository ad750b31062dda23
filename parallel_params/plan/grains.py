"""Grains: equal slices of the global batch, the leaves of the reduction tree.

Says how many there are and who can share them; it sums nothing.
"""

from parallel_params.errors import PlanError
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.policy import Policy
from parallel_params.plan.text import name_some

_MOST_WORLDS_TRIED = 4096


def resolve_grains(mesh: Mesh, policy: Policy) -> int:
    """Return the number of grains; fast reduction takes a share of the batch as one."""
    if policy.grains is None or policy.reduction == "fast":
        return mesh.num_shares
    return policy.grains


def check_grains(mesh: Mesh, policy: Policy) -> None:
    """Refuse grains that the shares of the batch cannot have equally many of.

    Raises:
        PlanError: naming the nearest grains and the world sizes that work.
    """
    grains, num_shares = resolve_grains(mesh, policy), mesh.num_shares
    if grains % num_shares:
        below = grains - grains % num_shares
        good = [str(g) for g in (below, below + num_shares) if g]
        same = mesh.size // num_shares  # ranks that see the same samples
        counts = range(1, min(grains, _MOST_WORLDS_TRIED) + 1)
        worlds = [str(n * same) for n in counts if grains % n == 0]
        who = f"{num_shares} ranks" if same == 1 else f"{num_shares} shares of {mesh!r}"
        raise PlanError(
            f"policy.grains = {grains} cannot be shared equally by {who}. "
            f"Use grains = {' or '.join(good)}, or a world of "
            f"{name_some(worlds, most=12)} ranks"
        )
