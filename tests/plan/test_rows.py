from itertools import accumulate, combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import plans

from parallel_params.plan.bucket import Bucket, Extent
from parallel_params.plan.interval import Interval
from parallel_params.plan.part import part_of, parts_of_many
from parallel_params.plan.plan import Plan
from parallel_params.plan.policy import Level

SHAPES = st.tuples(st.integers(0, 9), st.integers(1, 13))


def row_bucket(shapes: list[tuple[int, int]]) -> Bucket:
    stops = accumulate(rows * width for rows, width in shapes)
    return Bucket(
        index=0,
        axes=("data",),
        level=Level.STATE,
        dtype="float32",
        structure="row",
        is_trainable=True,
        state_slots=(),
        row_slots=("r",),
        extents=tuple(
            Extent(
                name=str(number),
                interval=Interval(stop - rows * width, stop),
                row_numel=width,
            )
            for number, ((rows, width), stop) in enumerate(
                zip(shapes, stops, strict=True)
            )
        ),
    )


@settings(max_examples=300)
@given(shapes=st.lists(SHAPES, min_size=1, max_size=6), num_owners=st.integers(1, 60))
def test_all_positions_at_once_have_what_each_has(
    shapes: list[tuple[int, int]], num_owners: int
) -> None:
    bucket = row_bucket(shapes)
    cuts = bucket.row_table().cuts(num_owners)
    rows, columns = bucket.row_table().count(cuts)
    parts = []
    for position in range(num_owners):
        own = bucket.owned(position, num_owners, alignment=1)
        assert (own.start, own.stop) == (cuts[position], cuts[position + 1])
        within = [*bucket.parts_within(own)]
        assert rows[position] == sum(p.numel // e.row_numel for e, p in within)
        assert columns[position] == sum(e.row_numel for e, _ in within)
        parts.append((own.numel, rows[position], columns[position]))
    changes = [k for k in range(1, num_owners) if parts[k] != parts[k - 1]]
    assert bucket.borders(num_owners, alignment=1) == changes
    inside = {*cuts.tolist()} - {0, bucket.numel}
    assert bucket.cuts(num_owners, alignment=1) == sorted(inside)
    for num_local in {1, 2, 3, num_owners}:
        if num_owners % num_local == 0:
            lanes = bucket.lane_numels(num_owners, num_local=num_local, alignment=1)
            assert lanes == [
                sum(own for own, _, _ in parts[lane::num_local])
                for lane in range(num_local)
            ]


def test_cuts_of_huge_buckets_do_not_overflow() -> None:
    bucket = row_bucket([(2**41, 3), (5, 2**40)])
    cuts = bucket.row_table().cuts(999_983)
    for position in (0, 1, 500_000, 999_981, 999_982):
        own = bucket.owned(position, 999_983, alignment=1)
        assert (own.start, own.stop) == (cuts[position], cuts[position + 1])


@settings(max_examples=100)
@given(plan=plans())
def test_ranks_have_equal_numbers_if_their_parts_are_equal(plan: Plan) -> None:
    for bucket in plan.buckets:
        numbers = parts_of_many(plan, bucket, np.arange(plan.mesh.size)).tolist()
        parts = [part_of(plan, bucket, rank) for rank in range(plan.mesh.size)]
        for one, other in combinations(range(plan.mesh.size), 2):
            is_same = numbers[one] == numbers[other]
            assert is_same == (parts[one] == parts[other])
