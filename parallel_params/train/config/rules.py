"""What the keys of a job must be to each other.

Each rule looks at the tables as given, so that it can speak although another key is
wrong; it is silent when a key it needs is wrong. What needs a model or a world of ranks
is checked in `train/check.py`.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from parallel_params.train.config.outer import EVERY_STEP
from parallel_params.train.config.problems import Problem
from parallel_params.train.config.text import KeyPath, Table


class _WrongKeyError(Exception):
    """A key that a rule needs is wrong itself."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Facts:
    table: Table
    wrong: frozenset[KeyPath]

    def value(self, *key: str | int) -> object:
        """Give what stands at a key, or None; raise if that is already a problem."""
        if any(bad == key[: len(bad)] for bad in self.wrong):
            raise _WrongKeyError
        inner: object = self.table
        for part in key:
            if isinstance(inner, dict):
                inner = inner.get(part)
            elif isinstance(inner, list) and isinstance(part, int):
                inner = inner[part]
            else:
                return None
        return inner

    def count(self, *key: str | int, default: int) -> int:
        """Give the whole number at a key, or what stands for a missing one."""
        value = self.value(*key)
        return value if isinstance(value, int) else default

    def share(self, *key: str | int) -> float:
        """Give the number at a key, or 0."""
        value = self.value(*key)
        return float(value) if isinstance(value, int | float) else 0.0


_FLAGS = ("parallel_optimizer", "layerwise_parallel", "comm_fusion", "level")
_Rule: TypeAlias = Callable[[_Facts], Iterator[Problem]]


def contradictions(table: Table, wrong: Iterable[KeyPath]) -> list[Problem]:
    """List the rules that the tables break.

    Args:
        table: the job as given, overrides applied.
        wrong: keys that are known to be wrong; rules that need them are silent.
    """
    facts = _Facts(table, frozenset(wrong))
    rules = (
        _grains,
        _duration,
        _warmup,
        _nesterov,
        _clip,
        _hidden_steps,
        _wire,
        _flag_overrides,
        _rounds,
        _not_in_rounds,
        _run_name,
    )
    return [problem for rule in rules for problem in _unless_wrong(rule, facts)]


def _unless_wrong(rule: _Rule, facts: _Facts) -> list[Problem]:
    try:
        return list(rule(facts))
    except _WrongKeyError:
        return []


def uneven_batch(batch: int, parts: int, what: str, *, name: str) -> str:
    """Say that a batch cannot be cut evenly, and which numbers near by can.

    Args:
        batch: samples of the whole world per step.
        parts: in how many it should be cut.
        what: the sentence in the middle, "grains (parallel.grains)" or "ranks".
        name: what to call the parts in the advice.
    """
    below, above = batch - batch % parts, batch - batch % parts + parts
    batches = f"{below} or {above}" if below else str(above)
    counts = divisors(batch)
    fewer = max((n for n in counts if n < parts), default=None)
    more = min((n for n in counts if n > parts), default=None)
    near = " or ".join(str(n) for n in (fewer, more) if n is not None)
    return (
        f"{batch} samples cannot be cut into {parts} equal {what}; "
        f"the nearest batches are {batches}, the nearest {name} {near}"
    )


def divisors(number: int) -> list[int]:
    """Return all divisors of a positive number in order, in square-root time."""
    small = [n for n in range(1, math.isqrt(number) + 1) if number % n == 0]
    return sorted({*small, *(number // n for n in small)})


def _grains(facts: _Facts) -> Iterator[Problem]:
    batch = facts.count("data", "batch", default=0)
    parts = facts.count("train", "accumulate", default=1)
    if batch and batch % parts:
        what = uneven_batch(batch, parts, "parts (train.accumulate)", name="parts")
        yield Problem(key=("data", "batch"), what=what)
        return
    part = batch // parts
    grains = facts.count("parallel", "grains", default=1)
    if part and part % grains:
        what = uneven_batch(part, grains, "grains (parallel.grains)", name="grains")
        what += f", each {parts} times over" if parts > 1 else ""
        yield Problem(key=("data", "batch"), what=what)


def _duration(facts: _Facts) -> Iterator[Problem]:
    steps, epochs = facts.value("train", "steps"), facts.value("train", "epochs")
    if steps is not None and epochs is not None:
        what = f"either steps or epochs, not both (steps = {steps}, epochs = {epochs})"
        yield Problem(key=("train", "epochs"), what=what)
    elif steps is None and epochs is None:
        what = "how long? give steps or epochs, as in steps = 600"
        yield Problem(key=("train",), what=what)


def _warmup(facts: _Facts) -> Iterator[Problem]:
    warmup = facts.count("optim", "schedule", "warmup", default=0)
    steps = facts.value("train", "steps")
    if isinstance(steps, int) and warmup >= steps:
        what = f"{warmup} steps of warm-up leave none of train.steps = {steps}"
        yield Problem(key=("optim", "schedule", "warmup"), what=what)


def _nesterov(facts: _Facts) -> Iterator[Problem]:
    momentum = facts.share("optim", "momentum")
    dampening = facts.share("optim", "dampening")
    if facts.value("optim", "nesterov") and (not momentum or dampening):
        what = (
            f"needs momentum above 0 and dampening 0 (got {momentum:g}, {dampening:g})"
        )
        yield Problem(key=("optim", "nesterov"), what=what)


def _clip(facts: _Facts) -> Iterator[Problem]:
    per = facts.value("optim", "clip_per")
    if per not in (None, "all") and facts.value("optim", "clip_norm") is None:
        what = "says whose norm is bounded, but there is no optim.clip_norm; give one"
        yield Problem(key=("optim", "clip_per"), what=what)


def _hidden_steps(facts: _Facts) -> Iterator[Problem]:
    is_dynamic = facts.value("optim", "loss_scale") == "dynamic"
    if is_dynamic and facts.value("optim", "non_finite") == "zero":
        what = (
            '"zero" hides the steps that a dynamic loss scale has to see; use "skip", '
            "or a number as optim.loss_scale"
        )
        yield Problem(key=("optim", "non_finite"), what=what)


def _wire(facts: _Facts) -> Iterator[Problem]:
    wire = facts.value("parallel", "wire_dtype")
    if wire is not None and facts.value("parallel", "reduction") == "fast":
        what = (
            'needs parallel.reduction = "canonical"; "fast" leaves the sums to MPI, '
            "which sums what travels"
        )
        yield Problem(key=("parallel", "wire_dtype"), what=what)


def _flag_overrides(facts: _Facts) -> Iterator[Problem]:
    entries = facts.value("parallel", "override")
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        if isinstance(entry, dict) and set(entry) == {"match"}:
            what = "sets no flag; give one of " + ", ".join(_FLAGS)
            yield Problem(key=("parallel", "override", index), what=what)


def _rounds(facts: _Facts) -> Iterator[Problem]:
    """What every rank does together happens between two rounds."""
    every = facts.count("outer", "every", default=0)
    if not every:
        for key, default in dataclasses.asdict(EVERY_STEP).items():
            if facts.value("outer", key) not in (None, default):
                what = "there is no outer loop without outer.every; give one"
                yield Problem(key=("outer", key), what=what)
        return
    for key, default in (("steps", every), ("eval_every", 100)):
        steps = facts.count("train", key, default=default)
        if steps % every:
            below, above = steps - steps % every, steps - steps % every + every
            near = f"{below} or {above}" if below else str(above)
            what = f"{steps} is no whole number of rounds of outer.every = {every}; "
            yield Problem(key=("train", key), what=f"{what}say {near}")
    grains = facts.count("parallel", "grains", default=0)
    workers = facts.count("outer", "workers", default=1)
    if grains % workers:
        what = f"{grains} grains cannot be shared equally by {workers} workers"
        yield Problem(key=("parallel", "grains"), what=what)


def _not_in_rounds(facts: _Facts) -> Iterator[Problem]:
    if facts.value("outer", "every") is None:
        return
    refused: tuple[tuple[KeyPath, object, str], ...] = (
        (("parallel", "level"), 3, "an outer step needs every weight whole"),
        (("optim", "name"), "schedulefree", "the anchor would be of other weights"),
    )
    for key, value, why in refused:
        if facts.value(*key) == value:
            yield Problem(key=key, what=f"not with outer.every: {why}; choose another")
    average = facts.value("optim", "ema", "kind")
    if average not in (None, "none"):
        what = "not with outer.every: what is looked at is the anchor; leave it out"
        yield Problem(key=("optim", "ema"), what=what)
    if facts.value("checkpoint", "background"):
        what = (
            "not with outer.every: workers and anchor are saved together; leave it out"
        )
        yield Problem(key=("checkpoint", "background"), what=what)
    for index, entry in enumerate(_entries(facts)):
        if entry.get("layerwise_parallel") or entry.get("level") == 3:
            what = "not with outer.every: neither own weights nor level 3; leave it out"
            yield Problem(key=("parallel", "override", index), what=what)


def _entries(facts: _Facts) -> list[dict[str, object]]:
    entries = facts.value("parallel", "override")
    found = entries if isinstance(entries, list) else ()
    return [entry for entry in found if isinstance(entry, dict)]


def _run_name(facts: _Facts) -> Iterator[Problem]:
    name = facts.value("run", "name")
    if isinstance(name, str) and ("/" in name or name.startswith(".")):
        what = (
            f"a name, not a path: no / in it and no . in front (got {name!r}); "
            "run.folder takes a path"
        )
        yield Problem(key=("run", "name"), what=what)
