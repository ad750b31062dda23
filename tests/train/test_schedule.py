"""Learning rates: up in a line, down by the schedule, as many as there are steps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_params.train.config.optim import (
    ConstantSchedule,
    CosineSchedule,
    LinearSchedule,
    Schedule,
)
from parallel_params.train.schedule import learning_rates

schedules = st.one_of(
    st.just(ConstantSchedule()),
    st.builds(
        CosineSchedule,
        kind=st.just("cosine"),
        warmup=st.integers(0, 30),
        final=st.floats(0, 1),
    ),
    st.builds(
        LinearSchedule,
        kind=st.just("linear"),
        warmup=st.integers(0, 30),
        final=st.floats(0, 1),
    ),
)


@given(schedule=schedules, num_steps=st.integers(31, 60))  # longer than warm-ups
def test_rates_are_one_per_step_and_never_above_the_peak(
    schedule: Schedule, num_steps: int
) -> None:
    rates = learning_rates(schedule, peak=0.5, num_steps=num_steps)
    assert len(rates) == num_steps
    assert all(0.0 <= rate <= 0.5 for rate in rates)


@given(schedule=schedules)
def test_rates_rise_to_the_peak_and_never_rise_again(schedule: Schedule) -> None:
    rates = learning_rates(schedule, peak=1.0, num_steps=60)
    top = rates.index(max(rates))
    assert rates[top] == 1.0
    assert list(rates[: top + 1]) == sorted(rates[: top + 1])
    assert list(rates[top:]) == sorted(rates[top:], reverse=True)


def test_a_constant_rate_stays() -> None:
    assert learning_rates(ConstantSchedule(), peak=0.1, num_steps=3) == (0.1, 0.1, 0.1)


def test_a_linear_rate_falls_in_equal_parts_towards_its_final_value() -> None:
    schedule = LinearSchedule(kind="linear", warmup=2, final=0.5)
    rates = learning_rates(schedule, peak=1.0, num_steps=6)
    assert rates == (0.5, 1.0, 1.0, 0.875, 0.75, 0.625)


def test_a_cosine_rate_is_half_way_down_in_the_middle() -> None:
    schedule = CosineSchedule(kind="cosine")
    rates = learning_rates(schedule, peak=2.0, num_steps=4)
    assert rates[2] == pytest.approx(1.0)
