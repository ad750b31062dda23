"""What of a checkpoint goes where in a net: names, shapes, slices, and what is missing.

Decided for all parameters before a byte of them is read, from manifest and plan alone,
so all ranks decide the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from parallel_params.checkpoint.manifest import Key, Manifest, Stored
from parallel_params.checkpoint.tensors import Described, tensors_of
from parallel_params.errors import CheckpointMismatch
from parallel_params.plan.plan import Plan
from parallel_params.plan.spec import MASTER_WEIGHT
from parallel_params.plan.text import name_some

Layerwise: TypeAlias = Literal["fail", "mean"] | int | Mapping[int, int]
"""What a layerwise-parallel parameter gets if the number of its slices has changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    """Where every tensor of a plan comes from.

    Attributes:
        sources: the stored tensor, or several whose mean is wanted; none for a state
            that starts anew at zero. A tensor that is not here stays as it is.
        notes: what is not as it was saved, for a person.
    """

    sources: Mapping[Key, tuple[Stored, ...]]
    notes: list[str] = field(default_factory=list)


def match(
    manifest: Manifest,
    plan: Plan,
    *,
    where: str,
    is_strict: bool,
    weights_only: bool,
    layerwise: Layerwise,
) -> Matches:
    """Find the source of every weight and state of a plan.

    Args:
        manifest: of the checkpoint.
        plan: of the net that is loaded into.
        where: the name of the checkpoint in errors.
        is_strict: whether everything must be there, and nothing else.
        weights_only: whether states are left alone.
        layerwise: for slices that have become more or fewer.

    Raises:
        CheckpointMismatch: naming the first tensor that does not fit.
    """
    finder = _Finder(manifest, plan, where, is_strict, layerwise)
    for described in tensors_of(plan):
        if not described.key.slot:
            finder.add_weight(described)
        elif not weights_only:
            finder.add_state(described)
    finder.look_for_the_rest(weights_only=weights_only)
    return Matches(sources=finder.sources, notes=finder.notes)


class _Finder:
    """Collects sources and notes; raises at what does not fit."""

    def __init__(
        self,
        manifest: Manifest,
        plan: Plan,
        where: str,
        is_strict: bool,
        layerwise: Layerwise,
    ) -> None:
        self._manifest, self._plan, self._where = manifest, plan, where
        self._is_strict, self._layerwise = is_strict, layerwise
        self.sources: dict[Key, tuple[Stored, ...]] = {}
        self.notes: list[str] = []
        self._used: set[tuple[str, str]] = set()
        self._trained = {s.key.name for s in manifest.tensors if s.key.slot}

    def add_weight(self, wanted: Described) -> None:
        """Find a weight."""
        first = self._first(wanted)
        if first is None:
            hint = self._manifest.hint(wanted.key.name)
            self._object(wanted, f"it has no parameter {wanted.key.name!r}. {hint}")
        elif self._fits(first, wanted):
            self.sources[wanted.key] = self._slices(first, wanted)

    def add_state(self, wanted: Described) -> None:
        """Find an optimizer state; one that was not trained starts anew."""
        first = self._first(wanted)
        if first is not None:
            if self._fits(first, wanted):
                self.sources[wanted.key] = self._slices(first, wanted)
            return
        weight = self._manifest.find(Key(wanted.key.name))
        if wanted.key.slot == MASTER_WEIGHT or weight is None:
            return  # taken from the weight, whatever that is
        if weight.key.name not in self._trained:
            self.sources[wanted.key] = ()
            self._note(wanted, f"{wanted.key} starts anew: it was frozen when saved")
            return
        self._object(
            wanted,
            f"it has no state {wanted.key.slot!r} of {wanted.key.name!r}, so it was "
            "saved with another optimizer. Build that one, or load weights alone",
        )

    def look_for_the_rest(self, *, weights_only: bool) -> None:
        """Object to what is in the checkpoint and has no place in the net."""
        left: dict[str, list[str]] = {"": [], "state": []}
        for stored in self._manifest.tensors:
            name, slot, _ = stored.key
            if (name, slot) in self._used or slot == MASTER_WEIGHT:
                continue
            if slot and not weights_only and self._is_dropped(stored):
                self.notes.append(f"{stored.key} is dropped: it is not trained here")
            elif not slot or not weights_only:
                left["state" if slot else ""].append(str(stored.key))
        for kind, names in left.items():
            what = "states that nothing here has" if kind else "parameters that the "
            what += "" if kind else "net does not have"
            if names and self._is_strict:
                raise CheckpointMismatch(
                    f"{self._where} has {what}: {name_some(names)}. Build what was "
                    "saved, or load with strict=False"
                )
            if names:
                self.notes.append(f"not used, {what}: {name_some(names)}")

    def _first(self, wanted: Described) -> Stored | None:
        stored = self._manifest.find(wanted.key._replace(slice_index=0))
        if stored is not None:
            self._used.add((stored.key.name, stored.key.slot))
        return stored

    def _fits(self, stored: Stored, wanted: Described) -> bool:
        for what in ("shape", "dtype"):
            found, expected = getattr(stored, what), getattr(wanted, what)
            if found != expected:
                self._object(
                    wanted,
                    f"{wanted.key} has {what} {found} there and {expected} here",
                )
                return False
        return True

    def _slices(self, first: Stored, wanted: Described) -> tuple[Stored, ...]:
        num_saved, index = first.num_slices, wanted.key.slice_index
        policy: Layerwise | int = self._layerwise
        is_told = isinstance(policy, Mapping) and num_saved > 1
        if num_saved == wanted.num_slices and not is_told:
            policy = index
        if policy == "fail":
            raise CheckpointMismatch(
                f"{self._where} has {num_saved} slices of {wanted.key.name!r}, there "
                f"are {wanted.num_slices} here (layerwise_parallel: own values). "
                "Load with layerwise=0 for the values of slice 0, layerwise='mean', or "
                "layerwise={0: 1, ...} for a saved slice each"
            )
        chosen = range(num_saved)
        if policy != "mean":
            number = policy.get(index) if isinstance(policy, Mapping) else policy
            if type(number) is not int or not 0 <= number < num_saved:
                raise CheckpointMismatch(
                    f"{self._where} has the slices 0 to {num_saved - 1} of "
                    f"{wanted.key.name!r}; layerwise={self._layerwise!r} gives slice "
                    f"{index} the saved slice {number!r}"
                )
            chosen = range(number, number + 1)
        if num_saved != wanted.num_slices:
            self._note(
                wanted,
                f"{wanted.key.name!r}: {num_saved} slices became "
                f"{wanted.num_slices}, as layerwise says",
            )
        found = [self._manifest.find(first.key._replace(slice_index=i)) for i in chosen]
        if any(each is None for each in found):
            raise CheckpointMismatch(f"{self._where} lacks slices of {first.key}")
        return tuple(each for each in found if each is not None)

    def _is_dropped(self, stored: Stored) -> bool:
        """Whether a state has no place because its parameter is not trained now."""
        names = {name: spec for spec in self._plan.params for name in spec.names}
        weight = self._manifest.find(Key(stored.key.name))
        known = (stored.key.name, *(weight.aliases if weight is not None else ()))
        specs = [names[name] for name in known if name in names]
        return bool(specs) and not specs[0].requires_grad

    def _object(self, wanted: Described, problem: str) -> None:
        if self._is_strict:
            raise CheckpointMismatch(f"{self._where} does not fit: {problem}")
        self._note(wanted, f"{wanted.key} stays as it is: {problem}")

    def _note(self, wanted: Described, text: str) -> None:
        if wanted.key.slice_index == 0:
            self.notes.append(text)
