"""The verb `verify-bits`: one job in many worlds; do all end with the same weights?

Ranks that are threads run in this process, worlds of processes as `train` starts them.
What is compared is the hash of the final weights and nothing else.
"""

import io
import itertools
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from parallel_params.cli import ends
from parallel_params.cli.children import run_world
from parallel_params.cli.library import mpi_library
from parallel_params.cli.training import Request, start_of
from parallel_params.comm.launch_env import is_launched
from parallel_params.errors import ConfigError, LaunchError, ParallelParamsError
from parallel_params.train.config import Job, load_job

TRANSPORTS = ("threads", "window", "messages")
LEVELS = (0, 1, 2, 3)
FAILED = "failed"
_HEAD = "ranks  level  transport  hash of the weights"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What is compared.

    Attributes:
        job: a job file, or the name of a shipped job.
        overrides: `key=value` words.
        ranks: sizes of the worlds.
        levels: of sharding.
        transports: some of `TRANSPORTS`.
        num_steps: of each run; None trains the whole job.
        launcher: what starts a world, None for the one that is found.
    """

    job: str
    overrides: tuple[str, ...]
    ranks: tuple[int, ...]
    levels: tuple[int, ...]
    transports: tuple[str, ...]
    num_steps: int | None
    launcher: str | None = None


@dataclass(frozen=True, slots=True)
class Combination:
    """One world of many."""

    num_ranks: int
    level: int
    transport: str

    def __str__(self) -> str:
        ranks = f"{self.num_ranks} rank{'s' if self.num_ranks > 1 else ''}"
        return f"{ranks}, level {self.level}, {self.transport}"

    @property
    def overrides(self) -> tuple[str, ...]:
        """The words that make a job this combination's."""
        level = f"parallel.level={self.level}"
        if self.transport == "threads":
            return (level,)
        return (level, f"parallel.transport={self.transport}")


def read_numbers(text: str, option: str, known: Sequence[int] = ()) -> tuple[int, ...]:
    """Read whole numbers with commas between them.

    Args:
        text: as given.
        option: what to call it in an error.
        known: what each may be; any number from 1 on by default.

    Raises:
        ConfigError: one is none of these.
    """
    what = f"numbers out of {', '.join(map(str, known))}" if known else "numbers >= 1"
    numbers = []
    for word in text.split(","):
        number = int(word) if word.strip().isdecimal() else -1
        if number not in known if known else number < 1:
            example = "0,1" if known else "1,2,4"
            raise ConfigError(
                [f"{option}: expected {what}, such as {example} (got {text!r})"]
            )
        numbers.append(number)
    return tuple(dict.fromkeys(numbers))


def read_transports(text: str) -> tuple[str, ...]:
    """Read names of transports with commas between them.

    Raises:
        ConfigError: one is unknown.
    """
    names = tuple(dict.fromkeys(word.strip() for word in text.split(",")))
    if not set(names) <= set(TRANSPORTS):
        raise ConfigError(
            [f"--transports: expected some of {','.join(TRANSPORTS)} (got {text!r})"]
        )
    return names


def verify_bits(
    wanted: Verification, *, environ: Mapping[str, str], say: Callable[[str], None]
) -> int:
    """Train a job in every combination, print a table and a verdict; return the code.

    Args:
        wanted: the combinations.
        environ: the environment.
        say: takes the lines.

    Raises:
        ConfigError: the job is wrong, or does not fit one of the worlds.
        LaunchError: worlds cannot be started here.
    """
    from parallel_params.train.build import check_world

    if is_launched(environ):
        raise LaunchError(
            "verify-bits starts worlds of its own; call it without mpirun and srun"
        )
    notes, words = _same_for_all(wanted)
    job = load_job(wanted.job, words)
    for num_ranks in wanted.ranks:
        check_world(job, num_ranks)
    if set(wanted.transports) - {"threads"}:
        mpi_library()  # told before the first run
    combinations = [
        Combination(*each)
        for each in itertools.product(wanted.ranks, wanted.levels, wanted.transports)
    ]
    say("\n".join([*notes, _HEAD]))
    hashes: dict[Combination, str] = {}
    # Where `train` leaves its runs: every node that a launcher chooses sees it.
    with tempfile.TemporaryDirectory(prefix=".verify-bits-", dir=".") as place:
        for number, each in enumerate(combinations):
            folder = Path(place, str(number)).resolve()
            own = [*words, *each.overrides, f"run.folder={json.dumps(str(folder))}"]
            code = _run(wanted, each, own, environ=environ)
            if code > 128:
                return code
            hashes[each] = _hash_in(folder) if code == ends.OK else FAILED
            row = f"{each.num_ranks:5}  {each.level:5}  {each.transport:9}"
            say(f"{row}  {hashes[each]}")
    say(describe_verdict(hashes))
    is_one = len(set(hashes.values())) == 1 and FAILED not in hashes.values()
    return ends.OK if is_one else ends.FAILURE


def describe_verdict(hashes: Mapping[Combination, str]) -> str:
    """Say on one line whether all are the same, else which are odd."""
    counts = Counter(text for text in hashes.values() if text != FAILED)
    if not counts:
        return f"bits  none of {len(hashes)} runs ended"
    usual, number = counts.most_common(1)[0]
    if number == len(hashes):
        return f"bits  the same weights in all {number} runs: {usual}"
    odd = "; ".join(
        f"{each} {'failed' if text == FAILED else f'gave {text}'}"
        for each, text in hashes.items()
        if text != usual
    )
    return f"bits  {number} of {len(hashes)} runs gave {usual}, but {odd}"


def _same_for_all(wanted: Verification) -> tuple[list[str], list[str]]:
    """Return what to say beforehand, and the overrides that all runs share.

    Raises:
        ConfigError: the job is wrong.
    """
    words = list(wanted.overrides)
    job = load_job(wanted.job, words)
    notes = []
    if job.parallel.grains is None:
        most = max(wanted.ranks)
        words.append(f"parallel.grains={most}")
        notes.append(
            f"note  the job has no parallel.grains; {most}, the largest -n, is used"
        )
    if wanted.num_steps is not None:
        words += _shortened(job, wanted.num_steps, notes)
    return notes, words


def _shortened(job: Job, num_steps: int, notes: list[str]) -> Iterator[str]:
    """Give the overrides that shorten a run, and note what else has to change."""
    parts = job.train.accumulate
    yield f"train={{steps={num_steps}, eval_every={num_steps}, accumulate={parts}}}"
    yield f"log.every={num_steps}"
    warmup = getattr(job.optim.schedule, "warmup", 0)
    if warmup >= num_steps:
        yield f"optim.schedule.warmup={num_steps // 2}"
        notes.append(
            f"note  a warm-up of {num_steps // 2} steps instead of {warmup}, which "
            f"would be longer than the {num_steps} steps compared here"
        )


def _run(
    wanted: Verification,
    each: Combination,
    words: Sequence[str],
    *,
    environ: Mapping[str, str],
) -> int:
    """Train one combination and return its exit code."""
    if each.transport == "threads":
        return _run_threads(load_job(wanted.job, words), each.num_ranks, environ)
    request = Request(
        job=wanted.job,
        overrides=tuple(words),
        num_ranks=each.num_ranks,
        launcher=wanted.launcher,
        is_quiet=True,
    )
    return run_world(start_of(request, environ=environ), environ=environ)


def _run_threads(job: Job, num_ranks: int, environ: Mapping[str, str]) -> int:
    from parallel_params.comm.local import run_threads
    from parallel_params.train.console import Console
    from parallel_params.train.loop import train

    mute = Console(stream=io.StringIO(), is_quiet=True)
    try:
        run_threads(num_ranks, lambda comm: train(job, comm, mute))
    except ParallelParamsError as error:
        if ends.code_of(error) == ends.BAD_INPUT:
            raise
        ends.tell(error, environ=environ)
        return ends.FAILURE
    return ends.OK


def _hash_in(folder: Path) -> str:
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return str(result["weights_hash"])
