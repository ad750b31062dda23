"""What the verbs `pparams ckpt ...` do and say; their options are in `ckpt.py`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from parallel_params.checkpoint.exporting import Naming, export
from parallel_params.checkpoint.files import Files
from parallel_params.checkpoint.folder import (
    find_left_over,
    find_newest,
    is_checkpoint,
    list_checkpoints,
    prune,
    remove_left_over,
)
from parallel_params.checkpoint.importing import import_file
from parallel_params.checkpoint.manifest import Manifest
from parallel_params.checkpoint.matching import Matches, match
from parallel_params.checkpoint.names import read_renames
from parallel_params.checkpoint.reading import Reader
from parallel_params.checkpoint.reads import reads_of
from parallel_params.checkpoint.saving import named
from parallel_params.errors import CheckpointError, PlanError
from parallel_params.plan.codec import decode
from parallel_params.plan.interval import Interval
from parallel_params.plan.plan import Plan
from parallel_params.plan.text import (
    format_bytes,
    format_count,
    format_table,
    plural,
)

Facts = Mapping[str, object]

_MOST_ROWS = 16


def list_facts(folder: Path) -> list[dict[str, object]]:
    """Return what there is to say of every checkpoint of a folder, as JSON values."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not there")
    if is_checkpoint(folder):
        raise CheckpointError(
            f"{folder} is a checkpoint itself and no folder of them: "
            f"`pparams ckpt show {folder}` says what is in it"
        )
    facts: list[dict[str, object]] = []
    for found in list_checkpoints(folder):
        manifest = found.manifest
        if manifest is None:
            facts.append({"name": found.path.name, "problem": found.problem})
        else:
            facts.append({"name": found.path.name, **_facts_of(manifest)})
    problem = "left over from an interrupted save or removal"
    for path in find_left_over(folder):
        facts.insert(0, {"name": path.name, "problem": problem})
    return facts


def list_text(facts: Sequence[Facts]) -> str:
    """Write the facts of `list_facts` for a person."""
    if not facts:
        return "no checkpoint"
    rows = [["checkpoint", "step", "bytes", "metric", "ranks", "level"]]
    for each in facts:
        if "problem" in each:
            rows.append([str(each["name"]), "-", "-", "-", "-", "-"])
            continue
        metric = "-" if each["metric"] is None else f"{each['metric']:.6g}"
        num_bytes = format_bytes(int(str(each["bytes"])))
        ranks, level = str(each["num_ranks"]), str(each["level"])
        rows.append(
            [str(each["name"]), str(each["step"]), num_bytes, metric, ranks, level]
        )
    lines = format_table(rows, align="<>>>>>")
    lines += [f"  {e['name']}: {e['problem']}" for e in facts if "problem" in e]
    return "\n".join(lines)


def show_facts(path: Path) -> dict[str, object]:
    """Return what is in a checkpoint, as JSON values."""
    reader = Reader.open(find_newest(path))
    manifest = reader.manifest
    return {
        "path": str(reader.folder),
        **_facts_of(manifest),
        "files": [[file.name, file.num_bytes] for file in manifest.files],
        "training": dict(manifest.training),
        "extras": dict(manifest.extras),
        "tensors": [
            {
                "name": str(stored.file_key),
                "shape": list(stored.shape),
                "dtype": stored.dtype,
                "slot": stored.key.slot,
                "slice_dim": stored.slice_dim,
                "aliases": list(stored.aliases),
            }
            for stored in manifest.tensors
        ],
    }


def show_text(facts: Facts) -> str:
    """Write the facts of `show_facts` for a person."""
    lines = [f"{facts['path']}: step {facts['step']}, {facts['written_by']}"]
    keys = ("cursor", "metric", "num_ranks", "level", "layout")
    lines += [f"  {key.replace('_', ' ')}: {facts[key]}" for key in keys]
    files, tensors, extras = facts["files"], facts["tensors"], facts["extras"]
    assert isinstance(files, list)
    assert isinstance(tensors, list)
    assert isinstance(extras, dict)
    lines += [f"  {name}: {format_bytes(size)}" for name, size in files]
    lines.append(f"  extras: {', '.join(extras) or 'none'}")
    rows = [["tensor", "shape", "type"]]
    rows += [[t["name"], str(tuple(t["shape"])), t["dtype"]] for t in tensors]
    return "\n".join([*lines, *format_table(rows, align="<<<")])


def verify(path: Path) -> tuple[list[str], bool]:
    """Compare every hash of one checkpoint, or of all in a folder."""
    paths = [path]
    if not is_checkpoint(path):
        # Without any, the newest is asked for: that says what is wrong.
        paths = [each.path for each in list_checkpoints(path)] or [find_newest(path)]
    lines, is_whole = [], True
    for each in paths:
        line, is_good = _verify_one(each)
        lines.append(line)
        is_whole = is_whole and is_good
    return lines, is_whole


def _verify_one(path: Path) -> tuple[str, bool]:
    try:
        reader, num_bytes = Reader.open(path), 0
        with reader:
            for stored in reader.manifest.tensors:
                num_bytes += reader.check(stored, Interval(0, stored.numel))
    except CheckpointError as error:
        return f"bad    {path}: {error}", False
    return f"whole  {path}: {format_bytes(num_bytes)}", True


def diff(
    path: Path,
    job: str,
    overrides: Sequence[str],
    *,
    num_ranks: int,
    ranks_per_node: int | None,
) -> str:
    """Say what a job would take from a checkpoint, and what would move for that."""
    from parallel_params.checkpoint.forms import packings_of
    from parallel_params.train.build import build_alone, plan_of
    from parallel_params.train.config import load_job

    reader, wanted = Reader.open(find_newest(path)), load_job(job, overrides)
    trainee, mesh = build_alone(wanted, num_ranks, ranks_per_node)
    new = plan_of(trainee, mesh)
    found = match(
        reader.manifest,
        new,
        where=str(reader.folder),
        is_strict=False,
        weights_only=False,
        layerwise=wanted.checkpoint.layerwise,
        packings=packings_of(trainee.net),
    )
    lines = [f"{reader.folder}, step {reader.manifest.step}"]
    lines += [f"  {note}" for note in found.notes] or ["  all tensors fit"]
    try:
        old = decode(dict(reader.manifest.plan))
        lines += [
            f"  saved by {_words(old)}; here {_words(new)}",
            *_moves(old, new, found),
        ]
    except PlanError as error:
        lines.append(f"  what would move cannot be said: {error}")
    return "\n".join(lines)


def _words(plan: Plan) -> str:
    return f"{plural(plan.mesh.size, 'rank')} at level {int(plan.policy.level)}"


def _moves(old: Plan, new: Plan, found: Matches) -> list[str]:
    rows = [["rank", "reads", "it had", "of other ranks", "starts anew"]]
    for rank in range(min(new.mesh.size, _MOST_ROWS)):
        reads = reads_of(old, new, rank, found)
        numbers = [reads.read, reads.had, reads.read - reads.had, reads.anew]
        rows.append([str(rank), *map(format_bytes, numbers)])
    left = new.mesh.size - _MOST_ROWS
    rest = [f"  and {format_count(left)} more"] if left > 0 else []
    return [*format_table(rows, align=">>>>>"), *rest]


def export_to(
    path: Path,
    target: Path,
    *,
    is_torch: bool,
    renames: Sequence[str],
    has_state: bool,
) -> list[str]:
    """Write the weights of a checkpoint as one file; return what there is to say."""
    reader = Reader.open(find_newest(path))
    naming = Naming(is_torch=is_torch, renames=read_renames(renames))
    notes = export(reader, target, naming, has_state=has_state)
    return [f"{target}: {format_bytes(target.stat().st_size)}", *notes]


def import_from(
    source: Path, target: Path, job: str | None, renames: Sequence[str]
) -> list[str]:
    """Make a checkpoint of a foreign file; return what there is to say."""
    wanted = None
    if job is not None:
        from parallel_params.train.build import job_plan
        from parallel_params.train.config import load_job

        wanted = job_plan(load_job(job, ()), 1).params
    done = import_file(source, target, renames=read_renames(renames), wanted=wanted)
    return [f"{target}: {plural(len(done.taken), 'parameter')}", *done.notes]


def prune_folder(folder: Path, *, keep: int, has_best: bool) -> list[str]:
    """Remove old checkpoints and left-overs; return what it was."""
    if not folder.is_dir() or is_checkpoint(folder):
        raise CheckpointError(f"{folder} is no folder of checkpoints")
    try:
        removed = remove_left_over(Files(), folder)
        removed += prune(Files(), folder, keep=keep, keep_best=has_best)
    except OSError as error:
        raise named(error, folder) from error
    return [f"removed {path}" for path in removed] or ["nothing to remove"]


def _facts_of(manifest: Manifest) -> dict[str, object]:
    plan = manifest.plan
    mesh, policy = plan.get("mesh"), plan.get("policy")
    sizes = mesh.get("sizes") if isinstance(mesh, dict) else None
    num_ranks = 1
    for size in sizes if isinstance(sizes, list) else ():
        num_ranks *= size if isinstance(size, int) else 1
    return {
        "step": manifest.step,
        "serial": manifest.serial,
        "layout": manifest.layout,
        "bytes": manifest.num_bytes,
        "metric": manifest.metric,
        "cursor": manifest.cursor,
        "num_ranks": num_ranks if sizes else None,
        "level": policy.get("level") if isinstance(policy, dict) else None,
        "written_by": manifest.written_by,
    }
