"""Weights that are cut over nodes (level 3): when each bucket is whole, and the bytes.

Buckets come in the order of declaration in forward, and the other way round in
backward. Each stays while one operator may still read it, and the next one is on its
way. The runtime follows this course, and the plan counts what is whole along it.

Source: Rajbhandari et al., ZeRO (2020), section 5.3.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from parallel_params.plan.bucket import Bucket

NUM_IN_USE = 2
"""Buckets in use at a time, at least: one operator may read weights of two."""

Event = tuple[Literal["start", "arrive", "drop"], int]
"""What happens to which bucket, counted in the order of forward."""


def first_declared(bucket: Bucket, declared: Mapping[str, int]) -> int:
    """Return where the first parameter of a bucket is declared.

    Args:
        bucket: one of the plan's.
        declared: position of every parameter, by name.
    """
    return min(declared[extent.name] for extent in bucket.extents)


def find_releases(
    names: Sequence[Sequence[str]], declared: Mapping[str, int]
) -> list[int]:
    """Return at which gather of forward each earlier one is given back.

    A bucket that shares a cell with later ones stays until these have come, because one
    operator may read all weights of a cell; and until its last parameter is used.

    Args:
        names: of the parameters of every bucket, in the order of forward.
        declared: position of every parameter, by name.

    Returns:
        By bucket, never falling; the number of all for those that stay to the end.
    """
    cells = [{name.rpartition(".")[0] for name in bucket} for bucket in names]
    last = {cell: k for k, members in enumerate(cells) for cell in members}
    firsts = [min(declared[name] for name in bucket) for bucket in names]
    releases: list[int] = []
    for k, members in enumerate(cells):
        # Its last parameter is used when all that is declared before has come.
        end = max(declared[name] for name in names[k])
        between = [j + 1 for j, first in enumerate(firsts) if first < end]
        behind = [last[cell] + 1 for cell in members]
        earliest = max([k + NUM_IN_USE, *behind, *between, *releases[-1:]])
        releases.append(min(earliest, len(cells)))
    return releases


def course_of(releases: Sequence[int]) -> Iterator[Event]:
    """Yield what happens in the forward and the backward pass of one grain.

    Args:
        releases: see `find_releases`.
    """
    number = len(releases)
    # In backward, what forward gave back at some gather is needed from there on.
    needed: list[list[int]] = [[] for _ in range(number + 1)]
    for index, release in enumerate(releases):
        needed[release].insert(0, index)
    for k in range(number):
        if k == 0:
            yield "start", 0
        yield from (("drop", index) for index in reversed(needed[k]))
        yield "arrive", k
        if k + 1 < number:
            yield "start", k + 1
    yield from (("drop", index) for index in reversed(needed[number]))
    yield from (("start", index) for index in needed[number])
    for k in reversed(range(number + 1)):
        if k < number:
            yield "drop", k
        yield from (("arrive", index) for index in needed[k])
        if k > 0:
            yield from (("start", index) for index in needed[k - 1])


def largest_live(
    sizes: Sequence[int], is_shared: Sequence[bool], releases: Sequence[int]
) -> int:
    """Return the most bytes of whole weights there are at a time.

    Where ranks of a node share a bucket, its pages are given back at the second arrival
    of a shared one behind its drop: by then all ranks have left them.

    Args:
        sizes: bytes of every bucket, in the order of forward.
        is_shared: whether ranks of the node share it.
        releases: see `find_releases`.
    """
    live: set[int] = set()
    dropped: list[int] = []
    droppable: list[int] = []
    most = 0
    # Twice: the second grain begins with what the first one has not given back yet.
    for what, index in (*course_of(releases), *course_of(releases)):
        if what == "start":
            live.add(index)
            dropped = [each for each in dropped if each != index]
            droppable = [each for each in droppable if each != index]
        elif what == "drop" and is_shared[index]:
            dropped.append(index)
        elif what == "drop":
            live.discard(index)
        elif is_shared[index]:
            live.difference_update(droppable)
            droppable, dropped = dropped, []
        most = max(most, sum(sizes[each] for each in live))
    return most
