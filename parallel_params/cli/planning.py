"""The verb `plan` as text. No world is started, no weight is made."""

import json
from collections.abc import Sequence

from parallel_params.plan import encode
from parallel_params.train.build import job_plan
from parallel_params.train.config import load_job


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
    plan = job_plan(load_job(job, overrides), num_ranks, ranks_per_node)
    if explain is not None:
        return plan.explain(explain)
    if is_json:
        return json.dumps({"digest": plan.digest, **encode(plan)}, indent=2)
    return plan.describe()
