import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_params.errors import PlanError
from parallel_params.plan.interval import Interval, even_split, is_cover, split_part

bounds = st.tuples(st.integers(0, 50), st.integers(0, 50)).map(sorted)
intervals = bounds.map(lambda pair: Interval(*pair))


def elements(interval: Interval) -> set[int]:
    return set(range(interval.start, interval.stop))


@given(left=intervals, right=intervals)
def test_an_intersection_holds_the_elements_of_both(
    left: Interval, right: Interval
) -> None:
    assert elements(left.intersect(right)) == elements(left) & elements(right)


@given(interval=intervals, offset=st.integers(-50, 50))
def test_a_shift_keeps_the_number_of_elements(interval: Interval, offset: int) -> None:
    if interval.start + offset < 0:
        with pytest.raises(PlanError, match="expected 0 <= start"):
            interval.shift(offset)
    else:
        assert interval.shift(offset).numel == interval.numel
        assert interval.shift(offset).shift(-offset) == interval


def test_an_interval_takes_its_elements_out_of_an_array() -> None:
    assert list(range(10))[Interval(3, 6).as_slice()] == [3, 4, 5]
    assert str(Interval(3, 6)) == "[3, 6)"
    assert Interval(3, 3).is_empty
    assert not Interval(3, 4).is_empty


def test_an_interval_that_runs_backwards_is_refused() -> None:
    with pytest.raises(PlanError, match=r"\[5, 3\): expected 0 <= start <= stop"):
        Interval(5, 3)


@given(
    numel=st.integers(0, 2000),
    parts=st.integers(1, 40),
    align=st.sampled_from((1, 3, 64)),
)
def test_an_even_split_covers_and_differs_by_the_alignment(
    numel: int, parts: int, align: int
) -> None:
    split = even_split(numel, parts, align)
    assert is_cover(split, Interval(0, numel))
    numels = [part.numel for part in split]
    assert max(numels) - min(numels) <= align
    assert all(part.stop % align == 0 or part.stop == numel for part in split)
    assert split == tuple(split_part(numel, parts, k, align) for k in range(parts))


@pytest.mark.parametrize("wrong", [(-1, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_an_even_split_of_nonsense_is_refused(wrong: tuple[int, int, int]) -> None:
    with pytest.raises(PlanError, match=f"cannot split {wrong[0]} elements"):
        even_split(*wrong)


def test_a_cover_has_no_gap_no_overlap_and_no_excess() -> None:
    whole = Interval(2, 9)
    assert is_cover([Interval(5, 9), Interval(2, 5), Interval(0, 0)], whole)
    assert not is_cover([Interval(2, 4), Interval(5, 9)], whole)
    assert not is_cover([Interval(2, 6), Interval(5, 9)], whole)
    assert not is_cover([Interval(2, 10)], whole)
    assert not is_cover([], whole)
