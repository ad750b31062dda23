"""`check_rule`: one call that tries every law on an optimizer rule of anybody's."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from parallel_params.errors import BrokenLaw
from parallel_params.optim.rule import AnyRule, Shape
from parallel_params.testing.cases import Case, is_rule, shapes_for
from parallel_params.testing.laws import LAWS

NUM_CASES = 14  # every shape once


@dataclass(frozen=True, slots=True, kw_only=True)
class LawReport:
    """What was tried.

    Attributes:
        rule: as it prints.
        cases: by law, how many cases were tried.
        seed: of all of them.
    """

    rule: str
    cases: Mapping[str, int]
    seed: int

    def __str__(self) -> str:
        tried = sum(self.cases.values())
        return (
            f"{self.rule} keeps {len(self.cases)} laws in {tried} cases of seed "
            f"{self.seed}: {', '.join(self.cases)}"
        )


def check_rule(
    rule: AnyRule | type[AnyRule],
    *,
    seed: int = 0,
    num_cases: int = NUM_CASES,
    laws: Sequence[str] | None = None,
    cases: Sequence[int] | None = None,
    shapes: Sequence[Shape] | None = None,
) -> LawReport:
    """Try every law of optimizer rules on `rule`; raise if one is broken.

    A rule that passes may be sharded at any level over any number of ranks, saved and
    resumed, given 16-bit or float64 weights, and clipped, and the weights are the same
    bits. The laws, with their reasons: `parallel_params.testing.LAWS`.

    Args:
        rule: of either kind: with `update` or with `moves`; or a class that makes one
            without arguments.
        seed: of what is drawn.
        num_cases: per law.
        laws: names of those to try; by default all.
        cases: numbers of those to try, as a report names them; by default all.
        shapes: of parameters to try; by default small, ragged, empty and scalar ones,
            or matrices for structure `matrix`.

    Returns:
        What was tried.

    Raises:
        BrokenLaw: naming every broken law with the first case that breaks it, what
            differs there and in which elements, and the call that tries it again.
        TypeError: `rule` is no rule, and no class that makes one without arguments.
        ValueError: there is no such law, or no case.
    """
    rule = _made(rule)
    names = list(LAWS) if laws is None else list(laws)
    unknown = [name for name in names if name not in LAWS]
    if unknown:
        raise ValueError(f"there is no law {unknown[0]!r}; the laws are {list(LAWS)}")
    numbers = range(num_cases) if cases is None else cases
    if shapes is not None and not len(shapes):
        raise ValueError("no shape to try: give one or more, or leave shapes out")
    if not len(numbers):
        raise ValueError("no case to try: give num_cases of 1 or more, or cases")
    found = list(_broken(rule, names, numbers, seed, shapes))
    if found:
        raise BrokenLaw(
            f"{rule!r} breaks {len(found)} of {len(names)} laws:\n" + "\n".join(found)
        )
    return LawReport(
        rule=repr(rule), cases=dict.fromkeys(names, len(numbers)), seed=seed
    )


def _made(rule: AnyRule | type[AnyRule]) -> AnyRule:
    made: object = rule
    if isinstance(rule, type):
        try:
            made = rule()
        except TypeError as error:
            raise TypeError(
                f"check_rule: {rule.__name__} cannot be made without arguments "
                f"({error}); make it, as in check_rule({rule.__name__}(...))"
            ) from None
    if not is_rule(made):
        raise TypeError(
            f"check_rule takes a rule with `structure` and `update` or `moves`, such "
            f"as AdamWRule(), not {rule!r}"
        )
    return cast("AnyRule", made)


def _broken(
    rule: AnyRule,
    names: Sequence[str],
    numbers: Sequence[int],
    seed: int,
    shapes: Sequence[Shape] | None,
) -> Iterator[str]:
    """Describe the first broken case of every law that is broken."""
    chosen = shapes_for(rule) if shapes is None else tuple(shapes)
    for name in names:
        for number in numbers:
            case = Case(rule, name, seed, number, chosen)
            try:
                what = LAWS[name](case)
            except Exception as error:
                what = f"raised {type(error).__name__}: {error}"
            if what:
                yield _describe(name, number, seed, case, what, shapes)
                break


def _describe(
    name: str,
    number: int,
    seed: int,
    case: Case,
    what: str,
    shapes: Sequence[Shape] | None,
) -> str:
    law = (LAWS[name].__doc__ or "").splitlines()[0]
    given = "" if shapes is None else f", shapes={list(shapes)}"
    return (
        f"  {name}: {law}\n"
        f"    {what}\n"
        f"    in case {number} of seed {seed}: {case}\n"
        f'    again: check_rule(rule, seed={seed}, laws=["{name}"], '
        f"cases=[{number}]{given})"
    )
