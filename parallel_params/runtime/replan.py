"""The side of a `ParameterManager` that changes its plan while it trains.

Everything new is made beside the old, on all ranks or on none; then values move, and
the parameters with them. Nothing of the old is touched before.
"""

import traceback
from collections.abc import Mapping, Sequence

from parallel_params.comm.agree import agree_ok
from parallel_params.errors import PlanError
from parallel_params.optim.optimizer import Optimizer
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.moves import Moves, check_moves, find_moves
from parallel_params.plan.plan import Plan
from parallel_params.plan.policy import Policy
from parallel_params.runtime.beginning import checked
from parallel_params.runtime.build import assemble, load_state, make_arenas, settings_of
from parallel_params.runtime.course import starts_of
from parallel_params.runtime.edits import Edits
from parallel_params.runtime.facts import ManagerFacts
from parallel_params.runtime.moving import Mover
from parallel_params.runtime.nodes import mesh_on_nodes
from parallel_params.runtime.opening import open_node, plan_for
from parallel_params.runtime.runtime import Runtime
from parallel_params.runtime.specs import check_disjoint, check_optimizers, make_specs
from parallel_params.runtime.start import agree_on_optimizers, agree_on_plan


class Replannable(ManagerFacts):
    """A manager whose plan may change."""

    _optimizers: tuple[Optimizer, ...]
    _aliases: Mapping[str, tuple[str, ...]]
    _policy: Policy  # as asked for: `plan.policy` is what there was room for
    _edits: Edits

    def replan(
        self,
        *,
        policy: Policy | None = None,
        mesh: Mesh | None = None,
        optimizer: Optimizer | Sequence[Optimizer] | None = None,
    ) -> Moves:
        """Go on under the plan that flags, policy and mesh ask for now.

        Weights, optimizer state, steps taken and the loss scale are kept; only bytes
        that a rank lacks under the new plan travel. A parameter that was frozen loses
        its state; one that is trained from now on starts with zeros, counts its steps
        from here, and its master weight is its weight. Until the move is done a rank
        holds what both plans ask for.

        Args:
            policy: by default as before.
            mesh: other names for the same ranks; by default as before.
            optimizer: further ones, for parameters that none was given so far.

        Returns:
            What was moved; printed, it is a report.

        Raises:
            PlanError: flags, policy and mesh contradict each other; or gradients are
                being accumulated; or it is called inside of `unsharded`.
            PlanMismatch: the ranks ask for different plans.
            RankFailed: another rank could not build its part.
            ManagerClosed: the manager is closed.

            Whatever is raised, the manager goes on under the old plan; flags that
            differ from it have to be set back, or replanned.

        Collective: all ranks, between two steps.
        """
        runtime = self._open
        extra, plan, policy = self._ask(policy, mesh, optimizer)
        optimizers = (*self._optimizers, *extra)
        if plan == self.plan and not extra:
            self._policy = policy
            self._edits.begin()
            return find_moves(plan, plan, self.comm.rank)
        starts = self._starts_under(plan, extra)
        moves, changed = self._build_beside(runtime, plan, optimizers, extra, starts)
        changed.bind()
        changed.go_on_from(runtime)
        self.plan, self.note, self._policy = moves.new, moves.note, policy
        self._optimizers, self._runtime = optimizers, changed
        self._course.follow(moves.new, changed, optimizers, starts)
        for each in extra:
            each.adopt("ParameterManager")
        self._edits.begin()
        node, groups = runtime.node, runtime.groups
        del runtime  # and the last views of the old windows that are ours
        node.close()
        groups.close()
        return moves

    def _rewire(self) -> None:
        """Have the rules count steps from where the course says now; nothing moves."""
        runtime, starts = self._open, self._course.starts
        rewired = assemble(
            self.plan,
            self.comm,
            self._optimizers,
            settings_of(self._optimizers, starts),
            runtime.arenas,
            runtime.node,
            runtime.groups,
        )
        rewired.bind()
        rewired.go_on_from(runtime)
        self._runtime = rewired
        self._course.follow(self.plan, rewired, self._optimizers, starts)
        self._edits.watch()

    def _ask(
        self, policy: object, mesh: object, optimizer: object
    ) -> tuple[tuple[Optimizer, ...], Plan, Policy]:
        """Return what all ranks ask for: further optimizers, the plan, the policy.

        Collective: all ranks.
        """
        error: Exception | None = None
        extra: tuple[Optimizer, ...] = ()
        policy = self._policy if policy is None else policy
        mesh = self.plan.mesh if mesh is None else mesh
        try:
            self._check_pause()
            extra = () if optimizer is None else check_optimizers(optimizer)
            check_disjoint((*self._optimizers, *extra))
            self._edits.check_movers((*self._optimizers, *extra))
            policy = checked(policy, Policy, "replan")
            mesh = checked(mesh, Mesh, "replan")
        except Exception as raised:
            error = raised
        agree_ok(self.comm, error)
        assert isinstance(policy, Policy)
        assert isinstance(mesh, Mesh)
        mesh = mesh_on_nodes(mesh, self.comm)
        try:
            specs = make_specs(
                self._parameters, (*self._optimizers, *extra), self._aliases
            )
            plan = plan_for(specs, policy, mesh, self.comm.size)
            check_moves(self.plan, plan)
        except Exception as raised:
            error = raised
        agree_ok(self.comm, error)
        agree_on_plan(self.comm, plan)
        agree_on_optimizers(self.comm, extra, plan)
        return extra, plan, policy

    def _check_pause(self) -> None:
        """Refuse a moment at which more is under way than a plan can hand over."""
        if self._course.has_pending:
            raise PlanError(
                "gradients of earlier batches wait for the next step, summed as the "
                "old plan cuts them. Take the step, then replan"
            )
        self._course.refuse_while_evaluating("the plan be changed")
        if self._is_unsharded:
            raise PlanError(
                "the weights are whole for a while, inside of manager.unsharded(). "
                "Leave it, then replan"
            )

    def _starts_under(self, plan: Plan, extra: Sequence[Optimizer]) -> dict[str, int]:
        """Return when the state of every parameter began or begins."""
        num_steps = self._course.num_steps
        started = {
            spec.name: num_steps
            for spec in plan.params
            if plan.bucket_of(spec.name).is_trainable
            and not self.plan.bucket_of(spec.name).is_trainable
        }
        return {**self._course.starts, **started, **starts_of(extra, num_steps)}

    def _build_beside(
        self,
        runtime: Runtime,
        plan: Plan,
        optimizers: Sequence[Optimizer],
        extra: Sequence[Optimizer],
        starts: Mapping[str, int],
    ) -> tuple[Moves, Runtime]:
        """Make what executes a plan, with all values in it, and change nothing.

        Collective: all ranks.
        """
        plan, groups, roles, node, note = open_node(plan, self.comm)
        error: Exception | None = None
        changed: Runtime | None = None
        try:
            moves = find_moves(self.plan, plan, self.comm.rank, note=note)
            changed = assemble(
                plan,
                self.comm,
                optimizers,
                settings_of(optimizers, starts),
                make_arenas(plan, roles, node, self._parameters),
                node,
                groups,
            )
            mover = Mover(moves, self.comm)
        except Exception as raised:
            # Views of the windows in its frames would keep them.
            traceback.clear_frames(raised.__traceback__)
            error = raised
        try:
            agree_ok(self.comm, error)
        except Exception:
            del changed  # and its views of the windows
            node.close()
            groups.close()
            raise
        assert changed is not None
        mover.run(runtime.arenas, changed.arenas)
        load_state(changed.arenas, extra)
        node.hand_over_weights()
        return moves, changed
