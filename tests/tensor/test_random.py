"""Counter-based streams: any interval alone, the same bits, the right laws."""

import statistics
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.tensor import quantile, random
from parallel_params.tensor.random import Stream

WHOLE = 5 * random.BLOCK + 77  # more than one block of each law
STREAM = Stream((0, "test"))
# Drawn once: every interval below is compared with a slice of these.
UNIFORM = STREAM.uniform(0, WHOLE)
NORMAL = STREAM.normal(0, WHOLE)
EVENTS = STREAM.bernoulli(0, WHOLE, 0.3)
RARE = STREAM.bernoulli(0, WHOLE, 0.003)


@settings(max_examples=25)
@given(st.integers(0, WHOLE), st.integers(0, WHOLE))
def test_any_interval_alone_equals_the_slice_of_the_whole(a: int, b: int) -> None:
    start, stop = min(a, b), max(a, b)
    assert_array_equal(STREAM.uniform(start, stop), UNIFORM[start:stop])
    assert_array_equal(STREAM.normal(start, stop), NORMAL[start:stop])
    assert_array_equal(STREAM.bernoulli(start, stop, 0.3), EVENTS[start:stop])
    assert_array_equal(STREAM.bernoulli(start, stop, 0.003), RARE[start:stop])


def test_far_elements_cost_nothing() -> None:
    far = 10**15
    assert STREAM.normal(far, far + 3).shape == (3,)
    assert_array_equal(STREAM.words(far + 1, far + 3), STREAM.words(far, far + 5)[1:3])


def named(*keys: int | str) -> Stream:
    return Stream(keys)


@settings(max_examples=25)
@given(st.lists(st.one_of(st.integers(0), st.text()), min_size=2, max_size=4))
def test_streams_of_different_keys_differ(keys: list[int | str]) -> None:
    stream = named(0, *keys)
    assert_array_equal(stream.words(0, 4), named(0, *keys).words(0, 4))
    spelled = [repr(key) for key in keys]
    others = [
        named(1, *keys),
        named(0, *keys[1:]),
        named(0, *spelled),
        stream.derive(0),
    ]
    for other in others:
        assert not np.array_equal(stream.words(0, 4), other.words(0, 4))


def test_texts_and_numbers_are_different_keys() -> None:
    streams = [
        *[named(1, 23), named(12, 3), named(1, "23"), named("1", 23)],
        *[named("123"), named(123)],
    ]
    drawn = {stream.words(0, 1).item() for stream in streams}
    assert len(drawn) == 6


def test_the_stream_is_what_it_was() -> None:
    # Checkpoints resume it: these numbers must never change.
    golden = Stream((3, "golden"))
    assert golden.words(0, 2).tolist() == [11108074355381297233, 10755011441478202416]
    assert golden.normal(0, 2).tolist() == [0.2589676961537612, 0.209651959383216]


def test_the_laws_have_their_moments() -> None:
    z, u = NORMAL, UNIFORM
    bound = 5 / np.sqrt(WHOLE)  # five standard errors
    assert abs(u.mean() - 1 / 2) < bound
    assert abs(u.var() - 1 / 12) < bound
    assert 0 < u.min() < u.max() < 1
    assert abs(z.mean()) < bound
    assert abs(z.var() - 1) < 2 * bound
    assert abs((z**4).mean() - 3) < 10 * bound
    assert abs((z[1:] * z[:-1]).mean()) < bound
    assert abs(EVENTS.mean() - 0.3) < bound


def test_normal_quantiles_are_right_to_the_last_digits() -> None:
    inner = np.linspace(0.001, 0.999, 999)
    tail = 10.0 ** -np.arange(1, 17)
    p = np.concatenate([inner, tail, 1 - tail[:15]])
    wanted = [statistics.NormalDist().inv_cdf(float(x)) for x in p]
    assert_allclose(quantile.normal(p), wanted, rtol=1e-14, atol=1e-16)


def test_log_is_right_to_the_last_digits() -> None:
    x = 10.0 ** np.linspace(-300, 300, 4001)
    assert_allclose(quantile.log(x), np.log(x), rtol=1e-15, atol=1e-15)


def test_the_seed_starts_the_sequence_afresh() -> None:
    def draw() -> list[int]:
        return [int(random.next_stream().words(0, 1)[0]) for _ in range(3)]

    before = random.get_seed()
    try:
        random.set_seed(7)
        first = draw()
        assert len(set(first)) == 3
        random.set_seed(7)
        assert draw() == first
        random.set_seed(8)
        assert random.get_seed() == 8
        assert draw() != first
    finally:
        random.set_seed(before)


@pytest.mark.parametrize(
    ("seed", "error"), [(-1, ValueError), (1.0, TypeError), (True, TypeError)]
)
def test_a_bad_seed_is_refused(seed: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        random.set_seed(seed)


def test_a_scope_forgets_what_was_drawn_outside_and_leaves_no_trace() -> None:
    with random.scope("step", 1):
        first = random.next_stream(), random.next_stream()
    outside = random.next_stream()
    with random.scope("step", 1):
        again = random.next_stream()
        with random.scope("grain", 2):
            inner = random.next_stream()
        second = random.next_stream()
    assert first == (again, second)
    assert len({*first, outside, inner}) == 4
    with pytest.raises(KeyError), random.scope("x"):
        raise KeyError
    ordinal = random.next_stream().keys[-1]
    assert isinstance(ordinal, int)
    assert outside.keys[-1] == ordinal - 1


def test_every_thread_starts_from_seed_zero() -> None:
    found: list[Stream] = []
    for _ in range(2):
        thread = threading.Thread(target=lambda: found.append(random.next_stream()))
        thread.start()
        thread.join()
    assert found[0] == found[1] == Stream((0, "draw", 0))


def test_ranks_of_a_thread_world_have_the_seed_of_their_caller() -> None:
    def draw(_: Communicator) -> tuple[int, Stream]:
        return random.get_seed(), random.next_stream()

    before = random.get_position()
    try:
        random.set_seed(11)
        alone = run_threads(1, draw)
        assert run_threads(2, draw) == 2 * alone
    finally:
        random.set_position(*before)
