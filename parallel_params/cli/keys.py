"""The verb `config keys` as text."""

from parallel_params.train.config import keys


def describe_keys() -> str:
    """List every key of a job file with its type, default and meaning."""
    lines = []
    for key in keys():
        when = f"  ({key.when})" if key.when else ""
        default = "required" if key.default is None else f"default {key.default}"
        lines.append(f"{key.name}: {key.type}, {default}{when}\n    {key.meaning}")
    return "\n".join(lines)
