"""The jobs that come with the package, and near names for one that is not there."""

from pathlib import Path

from parallel_params.train.config.words import near

_PACKAGE = Path(__file__).parents[2]
# In a wheel the jobs lie inside the package, in a checkout beside it.
_FOLDERS = (_PACKAGE / "jobs", _PACKAGE.parent / "configs")


def find_job(path: Path) -> Path:
    """Turn the bare name of a shipped job, as `digits`, into its file."""
    if path.suffix or path.parent != Path() or path.exists():
        return path
    for folder in _FOLDERS:
        if (file := folder / f"{path.name}.toml").is_file():
            return file
    return path


def shipped_jobs() -> dict[str, Path]:
    """List the files of the shipped jobs by name."""
    files = [file for folder in _FOLDERS for file in folder.glob("*.toml")]
    return {file.stem: file for file in sorted(files, key=lambda file: file.stem)}


def no_such_job(path: Path) -> str:
    """Say that a job file is not there, and which one may have been meant."""
    # A bare name is looked for among the jobs, not among all files of this folder.
    near_by = (Path("configs"),) if path.parent == Path() else (path.parent,)
    folders = dict.fromkeys((*near_by, *_FOLDERS))
    jobs: dict[str, str] = {}
    for file in (file for folder in folders for file in sorted(folder.glob("*.*"))):
        if file.suffix in (".toml", ".json") and file.name != "schema.json":
            # A shipped job has a name; where it lies is of no use to anybody.
            jobs.setdefault(
                file.stem, file.stem if file.parent.resolve() in _FOLDERS else str(file)
            )
    if guess := near(path.stem, jobs):
        return f'there is no such job file; did you mean "{jobs[guess]}"?'
    known = ", ".join(sorted(jobs.values()))
    return f"there is no such job file{f'; there are {known}' if known else ''}"
