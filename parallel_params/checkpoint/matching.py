"""What of a checkpoint goes where in a net: names, shapes, slices, and what is missing.

Decided for all parameters before a byte of them is read, from manifest and plan alone,
so all ranks decide the same.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from parallel_params.checkpoint.forms import Form, Forms
from parallel_params.checkpoint.manifest import Key, Manifest, Stored
from parallel_params.checkpoint.slices import (
    Layerwise,
    choose,
    find_average,
    find_cut,
    read_choice,
    slices_of,
    why_not_cut,
)
from parallel_params.checkpoint.sources import Anew, Averaged, Recut, Source
from parallel_params.checkpoint.tensors import Described, tensors_of
from parallel_params.errors import CheckpointMismatch
from parallel_params.nn.packing import Packing
from parallel_params.plan.plan import Plan
from parallel_params.plan.spec import MASTER_WEIGHT
from parallel_params.plan.text import name_some, plural


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    """Where every tensor of a plan comes from.

    Attributes:
        sources: where its values are. A tensor that is not here stays as it is.
        notes: what is not as it was saved, for a person.
    """

    sources: Mapping[Key, Source]
    notes: list[str] = field(default_factory=list)


def match(
    manifest: Manifest,
    plan: Plan,
    *,
    where: str,
    is_strict: bool,
    weights_only: bool,
    layerwise: Layerwise,
    packings: Iterable[Packing] = (),
) -> Matches:
    """Find the source of every weight and state of a plan.

    Args:
        manifest: of the checkpoint.
        plan: of the net that is loaded into.
        where: the name of the checkpoint in errors.
        is_strict: whether everything must be there, and nothing else.
        weights_only: whether states are left alone.
        layerwise: for slices that have become more or fewer.
        packings: what cells of the net say, see `forms.packings_of`.

    Raises:
        CheckpointMismatch: naming the first tensor that does not fit.
    """
    forms = Forms(packings, manifest, plan)
    finder = _Finder(manifest, plan, forms, where, is_strict, layerwise)
    for described in tensors_of(plan):
        if not described.key.slot:
            finder.add_weight(described)
        elif not weights_only:
            finder.add_state(described)
    finder.look_for_the_rest(weights_only=weights_only)
    return Matches(sources=finder.sources, notes=finder.all_notes())


class _Finder:
    """Collects sources and notes; raises at what does not fit."""

    def __init__(
        self,
        manifest: Manifest,
        plan: Plan,
        forms: Forms,
        where: str,
        is_strict: bool,
        layerwise: Layerwise,
    ) -> None:
        self._manifest, self._plan, self._where = manifest, plan, where
        self._forms = forms
        self._is_strict, self._choice = is_strict, read_choice(layerwise)
        self.sources: dict[Key, Source] = {}
        self.notes: list[str] = []
        # A deep net has many tensors of which the same is to be said.
        self._alike: dict[str, list[str]] = {}
        self._used: set[tuple[str, str]] = set()
        self._trained = {s.key.name for s in manifest.tensors if s.key.slot}

    def all_notes(self) -> list[str]:
        """Return what is not as it was saved, what is alike in one."""
        alike = self._alike.items()
        return [f"{name_some(keys)}: {how}" for how, keys in alike] + self.notes

    def add_weight(self, wanted: Described) -> None:
        """Find a weight."""
        first = self._first(wanted)
        if first is None:
            hint = self._manifest.hint(wanted.key.name)
            self._object(wanted, f"it has no parameter {wanted.key.name!r}. {hint}")
        else:
            self._add(first, wanted)

    def add_state(self, wanted: Described) -> None:
        """Find an optimizer state; one that was not trained starts anew."""
        first = self._first(wanted)
        if first is not None:
            self._add(first, wanted)
            return
        weight = self._first(wanted, is_weight=True)
        if wanted.key.slot == MASTER_WEIGHT or weight is None:
            return  # taken from the weight, whatever that is
        if weight.key.name not in self._trained:
            self.sources[wanted.key] = Anew()
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

    def _first(self, wanted: Described, *, is_weight: bool = False) -> Stored | None:
        """Return the first slice of a tensor, or of the first of what it is there."""
        slot = "" if is_weight else wanted.key.slot
        names = self._forms.names_there(wanted.key.name)
        found = [self._manifest.find(Key(name, slot)) for name in names]
        for stored in found:
            if stored is not None:
                self._used.add((stored.key.name, stored.key.slot))
        return found[0]

    def _add_in_form(self, wanted: Described, form: Form) -> None:
        """Take rows of what is packed there, or apart; or object."""
        source = self._forms.source(wanted, form)
        if isinstance(source, str):
            self._object(wanted, source)
            return
        self.sources[wanted.key] = source
        if not wanted.key.slot:
            how = "taken from rows of what is packed there"
            if len(form.names) > 1:
                how = "put together from what is apart there"
            self._note_alike(wanted, how)

    def _add(self, first: Stored, wanted: Described) -> None:
        """Take slices as they are, cut anew, or as the policy says; or object."""
        if (form := self._forms.find(wanted.key.name)) is not None:
            self._add_in_form(wanted, form)
            return
        source: Source | None = None
        if first.dtype == wanted.dtype:
            slices = slices_of(self._manifest, first)
            source = find_cut(slices, wanted)
            if source is None and self._is_of_whole_slices(wanted):
                source = find_average(slices, wanted)
                is_told = wanted.is_average and self._choice.kind != "fail"
                if source is None and not is_told:
                    self._object(wanted, why_not_cut(slices, wanted))
                    return
            if source is None and first.shape == wanted.shape:
                source = choose(
                    slices, wanted, self._choice, self._manifest, self._where
                )
        if source is None:
            self._object(wanted, f"{wanted.key} has {_differences(first, wanted)}")
            return
        self.sources[wanted.key] = source
        if first.num_slices != wanted.num_slices:
            how = "as layerwise says"
            if isinstance(source, Recut):
                how = f"cut anew along dim {source.dim}"
            elif isinstance(source, Averaged) and wanted.is_average:
                how = "averages of their averages"
            self._note_alike(
                wanted,
                f"{plural(first.num_slices, 'slice')} of shape {first.shape} became "
                f"{wanted.num_slices} of shape {wanted.shape}, {how}",
            )

    def _is_of_whole_slices(self, wanted: Described) -> bool:
        """Whether this state is no slice, of a parameter that is cut anew."""
        weight = self.sources.get(wanted.key._replace(slot=""))
        return bool(wanted.key.slot) and isinstance(weight, Recut)

    def _is_dropped(self, stored: Stored) -> bool:
        """Whether a state has no place because its parameter is not trained now."""
        names = {name: spec for spec in self._plan.params for name in spec.names}
        weight = self._manifest.find(Key(stored.key.name))
        known = [*self._forms.names_here(stored.key.name)]
        known += weight.aliases if weight is not None else ()
        specs = [names[name] for name in known if name in names]
        return bool(specs) and not specs[0].requires_grad

    def _object(self, wanted: Described, problem: str) -> None:
        if self._is_strict:
            raise CheckpointMismatch(f"{self._where} does not fit: {problem}")
        self._note(wanted, f"{wanted.key} stays as it is: {problem}")

    def _note_alike(self, wanted: Described, how: str) -> None:
        if wanted.key.slice_index == 0:
            self._alike.setdefault(how, []).append(str(wanted.key))

    def _note(self, wanted: Described, text: str) -> None:
        if wanted.key.slice_index == 0:
            self.notes.append(text)


def _differences(first: Stored, wanted: Described) -> str:
    words = [
        f"{what} {getattr(first, what)} there and {getattr(wanted, what)} here"
        for what in ("shape", "dtype", "num_slices")
        if getattr(first, what) != getattr(wanted, what)
    ]
    return ", ".join(words)
