"""One training step of a network on several ranks, beside PyTorch's ways to do it.

The worlds of all contestants are started once; then one at a time takes a few steps,
round by round, while the others sleep. A step takes as long as on its slowest rank.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import typer

from benchmarks.contestants import (
    DEFAULT,
    MLP,
    MODEL_HELP,
    NAMES_HELP,
    REFERENCE,
    contestants,
    started,
)
from benchmarks.measure import blas_variables, table
from benchmarks.messages import Built, Ran
from benchmarks.worlds import Answer, ContestantFailed, World

NUM_WARM = 1  # steps of a round that fill the caches and are not timed
# Sums in another order and eps at another place: what that does in some steps, of the
# first loss. A wrong gradient is far above it.
AGREEMENT = 2e-3


def of_slowest(answers: Sequence[Ran]) -> list[float]:
    """Return the seconds of each step on the rank where it took longest."""
    return [max(each) for each in zip(*(ran.seconds for ran in answers), strict=True)]


def mean_losses(answers: Sequence[Ran]) -> list[float]:
    """Return the loss of each step over all ranks."""
    losses = zip(*(ran.losses for ran in answers), strict=True)
    return [statistics.fmean(each) for each in losses]


def largest_difference(losses: Mapping[str, Sequence[float]], number: int) -> float:
    """Return how far two contestants are apart in the first steps.

    Returns:
        The largest distance at one step, over the loss of the first.
    """
    steps = zip(*(figures[:number] for figures in losses.values()), strict=True)
    by_step: list[tuple[float, ...]] = list(steps)
    return max(max(each) - min(each) for each in by_step) / max(by_step[0])


@dataclass(slots=True)
class Taken:
    """What one contestant measured.

    Attributes:
        seconds: the median of a step on the slowest rank, by round.
        losses: of all steps.
        num_faults: page faults of a step in the last round, on the rank with most.
    """

    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    num_faults: float = 0.0


def run_rounds(
    worlds: dict[str, World], *, num_rounds: int, num_steps: int, batch: int
) -> dict[str, Taken]:
    """Let all take the same steps, in turn; drop those that fail."""
    taken = {name: Taken() for name in worlds}
    number = NUM_WARM + num_steps
    for index in range(num_rounds):
        names = list(worlds)
        first = index % max(1, len(names))
        # Everybody follows everybody: what one leaves in the caches hits all.
        for name in names[first:] + names[:first]:
            steps = index * number, number, batch
            if answers := _ask_or_drop(worlds, name, Ran, "run", *steps):
                each = taken[name]
                each.seconds.append(statistics.median(of_slowest(answers)[NUM_WARM:]))
                each.losses += mean_losses(answers)
                each.num_faults = max(ran.num_faults for ran in answers) / number
    return {name: taken[name] for name in worlds}


def build_all(worlds: dict[str, World]) -> tuple[int, dict[str, str]]:
    """Make all models.

    Returns:
        The number of their elements, and what each contestant says it runs on.
    """
    numbers: dict[str, int] = {}
    environments: dict[str, str] = {}
    for name in list(worlds):
        built = _ask_or_drop(worlds, name, Built, "build")
        if built:
            numbers[name] = built[0].num_elements
            environments[name] = worlds[name].ask(str, "environment")[0]
    if len(set(numbers.values())) != 1:
        print(f"not one network: elements are {numbers}")
        raise typer.Exit(1)
    return next(iter(numbers.values())), environments


def _ask_or_drop(
    worlds: dict[str, World],
    name: str,
    kind: type[Answer],
    method: str,
    *arguments: object,
) -> list[Answer]:
    """Ask a world; if it fails, say why, take it out and answer nothing."""
    try:
        return worlds[name].ask(kind, method, *arguments)
    except ContestantFailed as failure:
        print(f"{failure}\n", flush=True)
        del worlds[name]
        return []


def main(
    ranks: int = typer.Option(2, "-n", help="Ranks of each world."),
    batch: int = typer.Option(64, help="Samples of each rank."),
    model: str = typer.Option(MLP, "--model", "--widths", help=MODEL_HELP),
    rounds: int = typer.Option(7, help="Turns of each contestant."),
    steps: int = typer.Option(5, help="Timed steps of a turn."),
    names: str = typer.Option(DEFAULT, "--contestants", help=NAMES_HELP),
) -> None:
    """Time a training step of a network on several ranks, beside PyTorch's."""
    print(f"a step of {model}, AdamW, {ranks} ranks of {batch} samples and 1 thread")
    print(f"{blas_variables()}")
    chosen = contestants(names, model=model, batch_sizes=[batch])
    with started(chosen, num_ranks=ranks) as worlds:
        num_elements, environments = build_all(worlds)
        for name, text in environments.items():
            print(f"  {name}: {text}")
        taken = run_rounds(worlds, num_rounds=rounds, num_steps=steps, batch=batch)
    seconds = {name: each.seconds for name, each in taken.items()}
    losses = {name: each.losses for name, each in taken.items()}
    if not seconds:
        raise typer.Exit(1)
    reference = REFERENCE if REFERENCE in seconds else next(iter(seconds))
    print(f"\n{num_elements:,} elements; speed 1 is {reference}".replace(",", " "))
    print(table(seconds, reference=reference, unit="ms"))
    number = min(10, rounds * (NUM_WARM + steps))
    apart = largest_difference(losses, number)
    verdict = "agree" if apart <= AGREEMENT else "DISAGREE"
    last = {name: round(figures[number - 1], 4) for name, figures in losses.items()}
    print(f"losses {verdict} to {apart:.1e} of the first in {number} steps: {last}")
    raise typer.Exit(apart > AGREEMENT)
