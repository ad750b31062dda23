"""A folder of checkpoints: which are there, which is the newest, what is left over.

`latest` in it names the newest one for people and scripts; nothing here trusts it. The
newest is the one with the largest serial number among those that are whole.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from parallel_params.checkpoint.files import Files, remove_tree, write_file
from parallel_params.checkpoint.manifest import Manifest
from parallel_params.checkpoint.reading import MANIFEST, Reader
from parallel_params.checkpoint.saving import ASIDE
from parallel_params.errors import CheckpointError

LATEST = "latest"
IN_RUN = "checkpoints"  # the folder of checkpoints inside of a run folder
_NAME = re.compile(r"step-(\d{6,18})(-\d+)?")
_LEFT_OVER = re.compile(rf"(step-\d{{6,18}}(-\d+)?|{LATEST}){re.escape(ASIDE)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One checkpoint in a folder.

    Attributes:
        path: of it.
        manifest: its description; None if it cannot be opened.
        problem: why not; empty if it can.
    """

    path: Path
    manifest: Manifest | None
    problem: str = ""


def is_checkpoint(path: Path) -> bool:
    """Tell whether a folder says that it is a checkpoint."""
    return (path / MANIFEST).exists()


def folder_in(path: Path) -> Path:
    """Return the folder of checkpoints of a run folder, any other path as it is."""
    return path / IN_RUN if (path / IN_RUN).is_dir() else path


def list_checkpoints(folder: Path) -> list[Found]:
    """Return the checkpoints of a folder, the oldest first; those with problems ahead.

    What is checked are manifests, lengths of files and their heads; not the data.
    """
    found = [_look_at(path) for path in _named_like_one(folder)]
    return sorted(
        found,
        key=lambda each: each.manifest.serial if each.manifest is not None else -1,
    )


def find_newest(folder: Path) -> Path:
    """Return the newest whole checkpoint of a folder; the folder itself if it is one.

    Raises:
        CheckpointError: there is none.
    """
    if is_checkpoint(folder):
        return folder
    found = list_checkpoints(folder)
    whole = [each for each in found if each.manifest is not None]
    if whole:
        return whole[-1].path
    if found:
        raise CheckpointError(
            f"{folder} has no checkpoint that is whole: {found[-1].problem}"
        )
    there = "is no folder" if folder.exists() else "is not there"
    there = "has no checkpoint in it" if folder.is_dir() else there
    raise CheckpointError(
        f"{folder} {there}: expected a checkpoint, a folder of them, or of a run. "
        "`pparams ckpt ls FOLDER` lists those of a folder; --resume auto takes the "
        "newest of the job, if there is any"
    )


def find_left_over(folder: Path) -> list[Path]:
    """Return what interrupted saves and removals have left in a folder."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if _LEFT_OVER.fullmatch(p.name))


def remove_left_over(files: Files, folder: Path) -> list[Path]:
    """Take away what interrupted saves and removals have left; return what it was."""
    found = find_left_over(folder)
    for path in found:
        if path.is_dir() and not path.is_symlink():
            remove_tree(files, path)
        else:
            files.remove(path)
    return found


def next_name(folder: Path, step: int) -> tuple[str, int]:
    """Return name and serial number of the next checkpoint in a folder."""
    known = [f.manifest for f in list_checkpoints(folder) if f.manifest is not None]
    serial = 1 + max([manifest.serial for manifest in known], default=0)
    name, number = f"step-{step:06}", 1
    while os.path.lexists(folder / name):
        number += 1
        name = f"step-{step:06}-{number}"
    return name, serial


def point_to(files: Files, folder: Path, name: str) -> None:
    """Write `latest`: one line with the name of the newest checkpoint."""
    aside = folder / f"{LATEST}{ASIDE}"
    if os.path.lexists(aside):
        files.remove(aside)
    write_file(files, aside, f"{name}\n".encode())
    files.rename(aside, folder / LATEST)
    files.sync_folder(folder)


def prune(
    files: Files, folder: Path, *, keep: int, keep_best: bool = True
) -> list[Path]:
    """Remove all checkpoints but the newest ones and the best one.

    None is ever seen half removed.

    Args:
        files: does it.
        folder: of the checkpoints.
        keep: how many of the newest stay, at least 1.
        keep_best: whether the one with the largest metric stays too, the newer of two.

    Returns:
        What was removed.
    """
    whole = [each for each in list_checkpoints(folder) if each.manifest is not None]
    kept = {each.path for each in whole[-keep:]}
    if keep_best:
        best = best_of(whole)
        kept |= set() if best is None else {best.path}
    removed = [each.path for each in whole if each.path not in kept]
    for path in removed:
        remove_checkpoint(files, path)
    return removed


def remove_checkpoint(files: Files, path: Path) -> None:
    """Remove a checkpoint, which gets the name of a leftover first."""
    aside = path.with_name(path.name + ASIDE)
    if os.path.lexists(aside):
        remove_tree(files, aside)
    files.rename(path, aside)
    files.sync_folder(path.parent)
    remove_tree(files, aside)


def best_of(found: list[Found]) -> Found | None:
    """Return the checkpoint with the largest metric, the newer of two equal ones."""
    best: Found | None = None
    for each in found:
        if each.manifest is None or each.manifest.metric is None:
            continue
        least = best.manifest.metric if best is not None and best.manifest else None
        if least is None or each.manifest.metric >= least:
            best = each
    return best


def _look_at(path: Path) -> Found:
    try:
        return Found(path=path, manifest=Reader.open(path).manifest)
    except CheckpointError as error:
        return Found(path=path, manifest=None, problem=str(error))


def _named_like_one(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from sorted(p for p in folder.iterdir() if _NAME.fullmatch(p.name))
