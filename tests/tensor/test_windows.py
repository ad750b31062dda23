"""Where a sliding window finds elements, and which settings make one."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from parallel_params.tensor.ops.windows import make_windows, pad_pairs, per_dim
from parallel_params.tensor.window import Window


@st.composite
def windows(draw: st.DrawFn) -> Window:
    """Draw a window that fits at least once."""
    small = st.integers(1, 4)
    window = Window(
        length=draw(st.integers(1, 9)),
        kernel=draw(small),
        stride=draw(small),
        dilation=draw(small),
        before=draw(st.integers(0, 3)),
        after=draw(st.integers(0, 3)),
    )
    assume(window.padded >= window.extent)
    return window


@given(window=windows())
def test_a_window_looks_at_every_element_that_is_no_padding(window: Window) -> None:
    padded = [None] * window.before + list(range(window.length)) + [None] * window.after
    for j in range(window.kernel):
        want = [
            (o, padded[o * window.stride + j * window.dilation])
            for o in range(window.count)
        ]
        assert padded[window.taps(j)] == [place for _, place in want]
        outputs, places = window.inside(j)
        found = zip(
            range(window.count)[outputs], range(window.length)[places], strict=True
        )
        assert [*found] == [(o, p) for o, p in want if p is not None]
    last = (window.count - 1) * window.stride + window.extent
    assert last <= window.padded < last + window.stride


@given(window=windows())
def test_windows_tile_if_each_element_is_in_one(window: Window) -> None:
    times = np.zeros(window.length, int)
    for j in range(window.kernel):
        times[window.inside(j)[1]] += 1
    if window.tiles:
        assert times.tolist() == [1] * window.length
    if not window.overlaps:
        assert times.max() <= 1


@given(length=st.integers(1, 20), kernel=st.integers(1, 5), stride=st.integers(1, 4))
def test_same_padding_makes_length_over_stride_windows(
    length: int, kernel: int, stride: int
) -> None:
    (window,) = make_windows("op", [length], [kernel], stride=stride, pad_mode="same")
    assert window.count == -(-length // stride)
    assert window.after - window.before in (0, 1)


def test_padding_is_one_number_one_per_dim_or_two_per_dim() -> None:
    assert pad_pairs(2, 2, "op") == ((2, 2), (2, 2))
    assert pad_pairs((1, 2), 2, "op") == ((1, 1), (2, 2))
    assert pad_pairs((1, 2, 3, 4), 2, "op") == ((1, 2), (3, 4))
    assert pad_pairs((1, 2), 1, "op") == ((1, 2),)


@pytest.mark.parametrize("value", [1.5, "3", True, [1, None], np.float64(2.0)])
def test_settings_are_integers(value: object) -> None:
    with pytest.raises(TypeError, match="stride is made of integers"):
        per_dim("stride", value, 2, least=1)


@pytest.mark.parametrize("value", [0, -1, [1, 0], [1, 2, 3], []])
def test_settings_are_large_enough_and_as_many_as_dims(value: object) -> None:
    with pytest.raises(ValueError, match="stride is"):
        per_dim("stride", value, 2, least=1)
