"""Before anything is allocated: the plan of this world, its groups, windows or none.

Whether there is room for windows is known when they are made; without it the twin of
the plan is taken that only exchanges messages, and somebody is told why.
"""

from collections.abc import Sequence
from dataclasses import replace

from parallel_params.comm.protocol import Communicator
from parallel_params.errors import CommunicationError, PlanError
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.plan import Plan, make_plan
from parallel_params.plan.policy import Policy
from parallel_params.plan.spec import ParamSpec
from parallel_params.runtime.groups import Groups
from parallel_params.runtime.node_memory import NodeMemory
from parallel_params.runtime.role import Role, role_of
from parallel_params.runtime.room import check_room


def plan_for(
    specs: Sequence[ParamSpec], policy: Policy | None, mesh: Mesh, num_ranks: int
) -> Plan:
    """Plan for the world that there is.

    Raises:
        PlanError: parameters, policy and mesh contradict each other or the world.
    """
    if mesh.size != num_ranks:
        raise PlanError(f"{mesh} has {mesh.size} ranks, the world has {num_ranks}")
    return make_plan(specs, mesh, policy if policy is not None else Policy())


def open_node(
    plan: Plan, comm: Communicator, *, given_back: int = 0, can_share: bool = True
) -> tuple[Plan, Groups, tuple[Role, ...], NodeMemory, str]:
    """Make the groups and windows of a plan; without room for windows, of its twin.

    Args:
        plan: the same on all ranks.
        comm: all ranks of the plan.
        given_back: bytes that this rank holds now and will not under the plan.
        can_share: whether windows were not found to be impossible.

    Returns:
        The plan that is executed, its groups, this rank's roles, the windows, and why
        there are none if there should have been.

    Raises:
        PlanError: there is not the memory for the plan, see `check_room`.
        CommunicationError: the policy insists on windows that cannot be had.

    Collective: all ranks.
    """
    check_room(plan, comm, given_back=given_back, can_share=can_share)
    groups = Groups(plan, comm)
    roles = _roles(plan, comm.rank, groups)
    problem = ""
    node: NodeMemory | None = None
    try:
        ranks = plan.node_group(comm.rank)
        is_shared = any(role.num_local > 1 for role in roles)
        node = NodeMemory(
            plan, comm.rank, roles, groups.of(ranks) if is_shared else None
        )
    except CommunicationError as error:
        problem = str(error)
    problems = [text.decode() for text in comm.all_gather_bytes(problem.encode())]
    first = next((text for text in problems if text), "")
    if not first:
        assert node is not None
        return plan, groups, roles, node, ""
    if node is not None:
        node.close()
    groups.close()
    if plan.policy.transport == "window":
        raise CommunicationError(first)
    note = f"messages instead of shared memory: {first}"
    policy = replace(plan.policy, transport="messages")
    twin = make_plan(plan.params, plan.mesh, policy)
    try:
        opened = open_node(twin, comm, given_back=given_back, can_share=False)
    except PlanError as error:
        raise PlanError(f"{error} ({note})") from error
    plan, groups, roles, node, _ = opened
    return plan, groups, roles, node, note


def _roles(plan: Plan, rank: int, groups: Groups) -> tuple[Role, ...]:
    return tuple(role_of(plan, bucket, rank, groups) for bucket in plan.buckets)
