"""Parameters that a checkpoint has in another form: packed in one, or each for itself.

What belongs to what the cells of a net say (`Cell.packings`); nothing is guessed.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from parallel_params.checkpoint.manifest import Key, Manifest
from parallel_params.checkpoint.slices import slices_of
from parallel_params.checkpoint.sources import Copied, Stacked, joined
from parallel_params.checkpoint.tensors import Described, has_own_rows, num_slices
from parallel_params.nn.cell import Cell
from parallel_params.nn.packing import Packing
from parallel_params.plan.plan import Plan
from parallel_params.plan.text import name_some


def packings_of(net: object) -> tuple[Packing, ...]:
    """Return what cells of a net say of their parameters, in the names of the net.

    Args:
        net: a cell; anything else says nothing.
    """
    found = []
    for _, cell in net.cells_and_names() if isinstance(net, Cell) else ():
        names = {}
        if cell.packings:
            names = {path: each.name for path, each in cell.parameters_and_names()}
        for packing in cell.packings:
            own = [path for path in (packing.packed, *packing.parts) if path in names]
            if own and names[own[0]].endswith(own[0]):
                prefix = names[own[0]].removesuffix(own[0])
                parts = tuple(prefix + part for part in packing.parts)
                found.append(Packing(prefix + packing.packed, parts))
    return tuple(found)


class Form(NamedTuple):
    """What a parameter is in a checkpoint that has it in another form.

    Attributes:
        names: there, below each other.
        num_rows: of all of them together.
        first: of these rows, the first that is the parameter's.
    """

    names: tuple[str, ...]
    num_rows: int
    first: int = 0


class Forms:
    """Finds what a checkpoint has in another form than a plan.

    Args:
        packings: of the net, see `packings_of`.
        manifest: of the checkpoint.
        plan: of the net.
    """

    def __init__(
        self, packings: Iterable[Packing], manifest: Manifest, plan: Plan
    ) -> None:
        self._manifest, self._plan = manifest, plan
        self._forms: dict[str, Form] = {}
        self._renamed: dict[str, str] = {}
        here = {name for spec in plan.params for name in spec.names}
        for packed, parts in packings:
            is_apart = all(part in here for part in parts)
            was_apart = all(manifest.find(Key(part)) for part in parts)
            is_there = was_apart or manifest.find(Key(packed)) is not None
            if is_apart == was_apart or not is_there:
                continue
            if len(parts) == 1:
                pair = (parts[0], packed) if is_apart else (packed, parts[0])
                self._renamed[pair[0]] = pair[1]
            elif was_apart:
                self._forms[packed] = Form(parts, plan.spec(packed).shape[0])
            else:
                self._add_parts(packed, parts)

    def names_there(self, name: str) -> tuple[str, ...]:
        """Return what a parameter is called there, or what has its rows."""
        form = self._forms.get(name)
        return (self._renamed.get(name, name),) if form is None else form.names

    def find(self, name: str) -> Form | None:
        """Return the other form of a parameter, if it is in one there."""
        return self._forms.get(name)

    def names_here(self, name: str) -> list[str]:
        """Return what a parameter of the checkpoint is called here, or is part of."""
        other = {there: here for here, there in self._renamed.items()}
        found = [here for here, form in self._forms.items() if name in form.names]
        return found or [other.get(name, name)]

    def source(self, wanted: Described, form: Form) -> Stacked | str:
        """Return where the values of a weight or state are; or why nowhere."""
        bucket, slot = self._plan.bucket_of(wanted.key.name), wanted.key.slot
        what = f"{name_some(form.names)} there became {wanted.key.name!r}"
        if not has_own_rows(bucket, slot):
            return (
                f"{what}, and {slot!r} is of whole matrices. Load with "
                "weights_only=True, or on a mesh where they are packed alike"
            )
        sources, row = [], wanted.shape[1:]
        for name in form.names:
            first = self._manifest.find(Key(name, slot))
            if first is None:
                return f"{what}, and it has no {slot or 'weight'} of {name!r}"
            slices = slices_of(self._manifest, first)
            source = joined(slices, 0) if first.slice_dim == 0 else Copied(first)
            if len(slices) > 1 and first.slice_dim != 0:
                return f"{what}, and {name!r} is not cut along dim 0"
            if source.shape[1:] != row or source.dtype != wanted.dtype:
                return (
                    f"{what}: {source.dtype} of rows {source.shape[1:]} there, "
                    f"{wanted.dtype} of rows {row} here"
                )
            sources.append(source)
        num_rows = sum(source.shape[0] for source in sources)
        if num_rows != form.num_rows:
            return f"{what}: {num_rows} rows there and {form.num_rows} here"
        first_row = form.first + wanted.key.slice_index * wanted.shape[0]
        start = first_row * math.prod(row)
        return Stacked(parts=tuple(sources), start=start, shape=wanted.shape)

    def _add_parts(self, packed: str, parts: Sequence[str]) -> None:
        first, rows = 0, [self._num_rows(part) for part in parts]
        for part, num in zip(parts, rows, strict=True):
            self._forms[part] = Form((packed,), sum(rows), first)
            first += num

    def _num_rows(self, name: str) -> int:
        spec, bucket = self._plan.spec(name), self._plan.bucket_of(name)
        number = num_slices(self._plan, bucket) if spec.slice_dim == 0 else 1
        return spec.shape[0] * number
