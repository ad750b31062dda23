"""The verbs `jobs` and `baseline` as text."""

import json
from collections.abc import Sequence

from parallel_params.train.config import load_job
from parallel_params.train.config.shipped import shipped_jobs


def describe_jobs() -> str:
    """List the shipped jobs by name, with their titles."""
    titles = {name: load_job(path).title for name, path in shipped_jobs().items()}
    width = max(map(len, titles), default=0)
    lines = [f"{name:<{width}}  {title}" for name, title in titles.items()]
    return "\n".join([*lines, "", "pparams train NAME -n 2 trains one of them"])


def describe_baselines(job: str, overrides: Sequence[str], *, is_json: bool) -> str:
    """Say what simple methods reach on the test samples of a job.

    Args:
        job: the job file, or the name of a shipped job.
        overrides: `key=value` words.
        is_json: as one JSON object.

    Raises:
        ConfigError: the job is wrong.
        DataError: the data cannot be read.
    """
    from parallel_params.train.data.load import load_data
    from parallel_params.train.tasks.choose import make_task

    loaded = load_job(job, overrides)
    dataset = load_data(loaded.data)
    task = make_task(loaded, dataset)
    metric, found = task.metric, task.baselines()
    if is_json:
        facts = {
            "metric": metric.name,
            "is_more_better": metric.is_more_better,
            "num_train": dataset.num_train,
            "num_test": dataset.num_test,
            "data": {**dataset.facts, "digest": dataset.digest},
            "baselines": {each.name: each.score for each in found},
        }
        return json.dumps(facts, indent=2)
    order = "more" if metric.is_more_better else "less"
    head = (
        f"{loaded.run.name}: test {metric.label}, {metric.meaning}; {order} is better\n"
        f"{dataset.num_train} samples to learn from, {dataset.num_test} to test on"
    )
    width = max((len(each.name) for each in found), default=0)
    rows = [f"  {each.name:<{width}}  {each.score:.4f}" for each in found]
    return "\n".join([head, *(rows or ["  too many samples for simple methods"])])
