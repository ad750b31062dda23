"""Laws of the order of samples: seed, epoch and position decide, nothing else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_params.train.data.sampler import Sampler, Share, epoch_order

seeds = st.integers(0, 2**63 - 1)
nums = st.integers(1, 50)
cursors = st.integers(0, 500)


@given(num=nums, seed=seeds, epoch=st.integers(0, 2**40))
def test_every_epoch_is_a_permutation(num: int, seed: int, epoch: int) -> None:
    order = epoch_order(num, seed=seed, epoch=epoch)
    assert sorted(order.tolist()) == list(range(num))


@given(num=nums, seed=seeds, cursor=cursors, length=st.integers(0, 12), parts=nums)
def test_the_shares_of_any_world_are_the_batch(
    num: int, seed: int, cursor: int, length: int, parts: int
) -> None:
    sampler, size = Sampler(num, seed=seed), length * parts
    shares = [
        sampler.batch(cursor, size, Share(index=index, count=parts))
        for index in range(parts)
    ]
    assert np.array_equal(np.concatenate(shares), sampler.batch(cursor, size))


@given(num=nums, seed=seeds, cursor=cursors, size=nums, rest=nums)
def test_going_on_from_a_cursor_equals_never_having_stopped(
    num: int, seed: int, cursor: int, size: int, rest: int
) -> None:
    whole = Sampler(num, seed=seed).batch(cursor, size + rest)
    resumed = Sampler(num, seed=seed).batch(cursor + size, rest)
    assert np.array_equal(whole[size:], resumed)


@given(num=nums, seed=seeds, epoch=st.integers(0, 9))
def test_the_stream_is_the_epochs_one_after_the_other(
    num: int, seed: int, epoch: int
) -> None:
    batch = Sampler(num, seed=seed).batch(epoch * num, num)
    assert np.array_equal(batch, epoch_order(num, seed=seed, epoch=epoch))


@given(num=nums, seed=seeds, cursors=st.lists(cursors, max_size=5))
def test_what_was_asked_before_changes_nothing(
    num: int, seed: int, cursors: list[int]
) -> None:
    used = Sampler(num, seed=seed)
    for cursor in cursors:
        fresh = Sampler(num, seed=seed)
        assert np.array_equal(used.batch(cursor, 7), fresh.batch(cursor, 7))


def test_seed_and_epoch_change_the_order() -> None:
    orders = {
        tuple(epoch_order(40, seed=seed, epoch=epoch).tolist())
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(orders) == 9


def test_the_order_is_the_same_in_every_version() -> None:
    # Saved runs go on with these; a change here breaks every resume.
    assert epoch_order(8, seed=7, epoch=0).tolist() == [0, 5, 4, 1, 3, 2, 6, 7]


def test_a_batch_that_the_shares_do_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="10 samples cannot be cut into 4"):
        Sampler(20, seed=0).batch(0, 10, Share(index=0, count=4))


def test_a_share_beyond_the_last_is_refused() -> None:
    with pytest.raises(ValueError, match="no part 2 of 2"):
        Share(index=2, count=2)


def test_an_order_of_no_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="no samples"):
        Sampler(0, seed=1)
