"""The verb `config keys` as text, and as the page of the docs."""

from parallel_params.train.config import keys

_PREAMBLE = """# Every key of a job file

Made by `pparams config keys --markdown`; a test compares the two. Tables nest with
dots: `optim.lr` is the key `lr` of the table `[optim]`. A key marked *with ...* belongs
to that choice alone.

| key | type | default | meaning |
|---|---|---|---|"""


def describe_keys(*, as_markdown: bool = False) -> str:
    """List every key of a job file with its type, default and meaning.

    Args:
        as_markdown: as the page `docs/job-keys.md`, else as plain text.
    """
    lines = [_PREAMBLE] if as_markdown else []
    for key in keys():
        when = f"with {' or '.join(key.when)}" if key.when else ""
        default = "required" if key.default is None else (key.default or "none")
        if as_markdown:
            cells = (f"`{key.name}`", key.type, default, key.meaning)
            name, *rest = (cell.replace("|", "\\|") for cell in cells)
            only = f"<br>*{when}*" if when else ""
            lines.append(f"| {name}{only} | {' | '.join(rest)} |")
        else:
            default = default if key.default is None else f"default {default}"
            note = f"  ({when})" if when else ""
            lines.append(f"{key.name}: {key.type}, {default}{note}\n    {key.meaning}")
    return "\n".join(lines)
