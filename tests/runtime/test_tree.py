"""Laws of the one order in which grains are added."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from parallel_params.runtime.tree import GrainSum, tree_sum
from parallel_params.tensor.row_sums import tree_sum_rows

NUMBERS = st.lists(
    st.floats(-1e6, 1e6, allow_nan=False, width=32), min_size=1, max_size=33
)


def sum_as_one_rank_would(grains: list[float]) -> tuple[float, int]:
    """Add grains one by one as they are computed; return the sum and the buffers."""
    buffers: dict[int, float] = {}

    def add(target: int, source: int) -> None:
        buffers[target] += buffers[source]

    total = GrainSum(add)
    for grain in grains:
        buffers[total.slot] = grain
        total.close()
    total.finish()
    return buffers[0], len(buffers)


@given(grains=NUMBERS)
def test_grains_one_by_one_add_up_as_the_tree_does(grains: list[float]) -> None:
    found, _ = sum_as_one_rank_would(grains)
    assert found == tree_sum(grains)


@given(grains=NUMBERS)
def test_a_rank_needs_one_buffer_per_bit_of_its_grains(grains: list[float]) -> None:
    _, num_buffers = sum_as_one_rank_would(grains)
    assert num_buffers <= len(grains).bit_length()


@given(grains=NUMBERS)
def test_rows_add_up_as_numbers_do(grains: list[float]) -> None:
    rows = np.array(grains)[:, None].repeat(3, axis=1)
    assert tree_sum_rows(rows).tolist() == [tree_sum(grains)] * 3


@given(data=st.data(), depth=st.integers(0, 5))
def test_powers_of_two_of_ranks_add_up_to_the_same_bits(
    data: st.DataObject, depth: int
) -> None:
    num_grains = 2**depth
    grains = data.draw(
        st.lists(
            st.floats(-1e6, 1e6, width=32), min_size=num_grains, max_size=num_grains
        )
    )
    for num_ranks in (2**k for k in range(depth + 1)):
        share = num_grains // num_ranks
        partials = [
            sum_as_one_rank_would(grains[r * share : (r + 1) * share])[0]
            for r in range(num_ranks)
        ]
        assert tree_sum(partials) == tree_sum(grains)


def test_the_tree_is_not_the_plain_sum() -> None:
    """Else the tests above would hold for any order."""
    grains = [1e16, 1.0, 1.0, 1.0]
    assert tree_sum(grains) != sum(grains)
