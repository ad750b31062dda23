"""The verb `plan` as text. No world is started.

Weights are made only for a mesh with a model axis: what cells send is rehearsed.
"""

import json
from collections.abc import Sequence

from parallel_params.plan import encode
from parallel_params.train.axis_traffic import rehearse_axis
from parallel_params.train.build import build, check_world, job_plan
from parallel_params.train.config import load_job
from parallel_params.train.data.load import load_data
from parallel_params.train.round_plan import plan_rounds


def describe_plan(
    job: str,
    overrides: Sequence[str],
    *,
    num_ranks: int,
    ranks_per_node: int | None,
    is_json: bool,
    explain: str | None,
) -> str:
    """Write the plan of a job for any number of ranks.

    Args:
        job: the job file.
        overrides: `key=value` words.
        num_ranks: ranks of the world.
        ranks_per_node: ranks that share memory; all of them by default.
        is_json: the whole plan as JSON and its digest.
        explain: the name of a parameter; what its flags did instead of the whole plan.

    Raises:
        ConfigError: the job is wrong.
        PlanError: the job does not fit this many ranks, or has no such parameter.
    """
    wanted = load_job(job, overrides)
    if wanted.outer.every is not None:
        check_world(wanted, num_ranks)
        trainee = build(wanted, load_data(wanted.data))
        rounds = plan_rounds(wanted, trainee, num_ranks, ranks_per_node)
        if explain is None and not is_json:
            return rounds.describe()
        plan = rounds.inner if explain is not None else rounds.outer
    else:
        plan = job_plan(wanted, num_ranks, ranks_per_node)
    if explain is not None:
        return plan.explain(explain)
    along = None
    if wanted.outer.every is None:
        along = rehearse_axis(wanted, load_data(wanted.data), plan.mesh)
    if is_json:
        facts = {"digest": plan.digest, **encode(plan)}
        if along is not None:
            facts["along_axis"] = along.as_json()
        return json.dumps(facts, indent=2)
    beside = "" if along is None else f"\n{along.describe()}"
    return plan.describe(along=along) + beside
