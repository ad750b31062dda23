"""A rank's share of a batch has the bits it has in the whole batch."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_params.train.config import load_job
from parallel_params.train.data.batches import Batches
from parallel_params.train.data.digits import load_digits
from parallel_params.train.data.sampler import WHOLE, Share
from parallel_params.train.data.shift import shift_pictures

DIGITS = Path(__file__).parents[2] / "configs" / "digits.toml"
JOB = load_job(DIGITS, ["data.batch=12", "data.shift=0.5"])
SAMPLES = load_digits()

cursors = st.integers(0, 5000)


@given(cursor=cursors, parts=st.sampled_from([1, 2, 3, 4, 6, 12]))
def test_the_shares_of_a_batch_are_its_slices_bit_for_bit(
    cursor: int, parts: int
) -> None:
    whole_x, whole_y = Batches(JOB, SAMPLES, WHOLE).at(cursor)
    shares = [
        Batches(JOB, SAMPLES, Share(index=index, count=parts)).at(cursor)
        for index in range(parts)
    ]
    assert np.concatenate([x for x, _ in shares]).tobytes() == whole_x.tobytes()
    assert np.concatenate([y for _, y in shares]).tobytes() == whole_y.tobytes()


@given(cursor=cursors)
def test_pictures_keep_their_labels(cursor: int) -> None:
    still = load_job(DIGITS, ["data.batch=12", "data.shift=0"])
    x, y = Batches(still, SAMPLES, WHOLE).at(cursor)
    for picture, label in zip(x, y, strict=True):
        same = (picture == SAMPLES.train_x).all(axis=1)
        assert label in SAMPLES.train_y[same]


def test_shifted_samples_differ_from_epoch_to_epoch() -> None:
    batches = Batches(JOB, SAMPLES, WHOLE)
    assert not np.array_equal(batches.at(0)[0], batches.at(0 + 1437)[0])


@pytest.fixture
def pictures() -> np.ndarray:
    return SAMPLES.train_x[:20].reshape(-1, 8, 8)


def test_a_shift_of_nothing_changes_nothing(pictures: np.ndarray) -> None:
    assert np.array_equal(shift_pictures(pictures, 0, seed=1, most=0.0), pictures)


def test_a_shift_moves_ink_and_makes_none(pictures: np.ndarray) -> None:
    moved = shift_pictures(pictures, 0, seed=1, most=1.0)
    assert moved.dtype == np.float32
    assert moved.min() >= 0.0
    assert (moved.sum(axis=(1, 2)) <= pictures.sum(axis=(1, 2)) + 1e-4).all()
    assert not np.array_equal(moved, pictures)


def test_a_dot_moves_by_the_fraction_that_was_drawn() -> None:
    dot = np.zeros((200, 3, 3), np.float32)
    dot[:, 1, 1] = 1.0
    moved = shift_pictures(dot, 0, seed=3, most=0.5)
    np.testing.assert_allclose(moved.sum(axis=(1, 2)), 1.0, rtol=1e-6)
    # The centre keeps (1 - |dy|)(1 - |dx|), at least (1/2)(1/2).
    assert moved[:, 1, 1].min() >= 0.25
    down, up = moved[:, 2].sum(axis=1), moved[:, 0].sum(axis=1)
    assert (np.minimum(down, up) == 0.0).all()
    assert 0.2 < np.mean(down > 0) < 0.8


def test_seed_and_position_decide_a_shift(pictures: np.ndarray) -> None:
    base = shift_pictures(pictures, 7, seed=1, most=0.5)
    assert np.array_equal(base[5:], shift_pictures(pictures[5:], 12, seed=1, most=0.5))
    assert not np.array_equal(base, shift_pictures(pictures, 8, seed=1, most=0.5))
    assert not np.array_equal(base, shift_pictures(pictures, 7, seed=2, most=0.5))
