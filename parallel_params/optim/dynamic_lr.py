"""MindSpore's lists of learning rates: `nn.cosine_decay_lr` and its like.

Epochs are what these count in: `step_per_epoch` steps share a rate. One list entry per
step, for an optimizer's `learning_rate`.
"""

import math
from collections.abc import Callable, Sequence

from parallel_params.optim.checks import (
    check_count,
    check_flag,
    check_number,
    check_positive,
)


def piecewise_constant_lr(
    milestone: Sequence[int], learning_rates: Sequence[float]
) -> list[float]:
    """Return `learning_rates[i]` up to step `milestone[i]`.

    Raises:
        TypeError: a member of another type.
        ValueError: lists of different lengths, or milestones that are not ascending.
    """
    if len(milestone) != len(learning_rates) or not milestone:
        raise ValueError(
            f"milestone and learning_rates must have one length, and have "
            f"{len(milestone)} and {len(learning_rates)}"
        )
    rates: list[float] = []
    for index, (stop, rate) in enumerate(zip(milestone, learning_rates, strict=True)):
        if check_count(f"milestone[{index}]", stop, least=1) <= len(rates):
            raise ValueError(f"milestone must be ascending, not {list(milestone)}")
        check_number(f"learning_rates[{index}]", rate)
        rates += [float(rate)] * (stop - len(rates))
    return rates


def exponential_decay_lr(
    learning_rate: float,
    decay_rate: float,
    total_step: int,
    step_per_epoch: int,
    decay_epoch: int,
    is_stair: bool = False,
) -> list[float]:
    """Return learning_rate * decay_rate^(epoch / decay_epoch).

    Args:
        learning_rate: of epoch 0.
        decay_rate: above 0.
        total_step: length of the list.
        step_per_epoch: steps that share a rate.
        decay_epoch: epochs for one power.
        is_stair: take whole powers only.
    """
    _check(learning_rate, decay_rate, decay_epoch, is_stair)

    def rate(epoch: int) -> float:
        return learning_rate * math.pow(
            decay_rate, _part(epoch, decay_epoch, is_stair=is_stair)
        )

    return _by_epoch(rate, total_step, step_per_epoch)


def natural_exp_decay_lr(
    learning_rate: float,
    decay_rate: float,
    total_step: int,
    step_per_epoch: int,
    decay_epoch: int,
    is_stair: bool = False,
) -> list[float]:
    """Return learning_rate * e^(-decay_rate * epoch).

    Args:
        learning_rate: of epoch 0.
        decay_rate: above 0.
        total_step: length of the list.
        step_per_epoch: steps that share a rate.
        decay_epoch: epochs of one stair.
        is_stair: change the rate every `decay_epoch` epochs only.
    """
    _check(learning_rate, decay_rate, decay_epoch, is_stair)

    def rate(epoch: int) -> float:
        passed = epoch // decay_epoch * decay_epoch if is_stair else epoch
        return learning_rate * math.exp(-decay_rate * passed)

    return _by_epoch(rate, total_step, step_per_epoch)


def inverse_decay_lr(
    learning_rate: float,
    decay_rate: float,
    total_step: int,
    step_per_epoch: int,
    decay_epoch: int,
    is_stair: bool = False,
) -> list[float]:
    """Return learning_rate / (1 + decay_rate * epoch / decay_epoch).

    Args:
        learning_rate: of epoch 0.
        decay_rate: above 0.
        total_step: length of the list.
        step_per_epoch: steps that share a rate.
        decay_epoch: epochs for one `decay_rate`.
        is_stair: take whole quotients only.
    """
    _check(learning_rate, decay_rate, decay_epoch, is_stair)

    def rate(epoch: int) -> float:
        passed = _part(epoch, decay_epoch, is_stair=is_stair)
        return learning_rate / (1.0 + decay_rate * passed)

    return _by_epoch(rate, total_step, step_per_epoch)


def cosine_decay_lr(
    min_lr: float, max_lr: float, total_step: int, step_per_epoch: int, decay_epoch: int
) -> list[float]:
    """Return rates from `max_lr` to `min_lr` in half a cosine of `decay_epoch` epochs.

    Raises:
        TypeError: a number of another type.
        ValueError: min_lr is negative or not below max_lr, or a count below 1.
    """
    check_range(min_lr, max_lr)
    check_count("decay_epoch", decay_epoch, least=1)

    def rate(epoch: int) -> float:
        return cosine(min_lr, max_lr, min(epoch, decay_epoch) / decay_epoch)

    return _by_epoch(rate, total_step, step_per_epoch)


def polynomial_decay_lr(
    learning_rate: float,
    end_learning_rate: float,
    total_step: int,
    step_per_epoch: int,
    decay_epoch: int,
    power: float,
    update_decay_epoch: bool = False,
) -> list[float]:
    """Return rates from one to the other as (1 - done)^power.

    With `update_decay_epoch`, `decay_epoch` grows to the next multiple of itself.
    """
    check_positive("learning_rate", learning_rate)
    check_number("end_learning_rate", end_learning_rate)
    check_positive("power", power)
    check_count("decay_epoch", decay_epoch, least=1)
    check_flag("update_decay_epoch", update_decay_epoch)

    def rate(epoch: int) -> float:
        return polynomial(
            (learning_rate, end_learning_rate),
            epoch,
            decay_epoch,
            power,
            is_updated=update_decay_epoch,
        )

    return _by_epoch(rate, total_step, step_per_epoch)


def warmup_lr(
    learning_rate: float, total_step: int, step_per_epoch: int, warmup_epoch: int
) -> list[float]:
    """Return rates from 0 to `learning_rate` in a line over `warmup_epoch` epochs."""
    check_positive("learning_rate", learning_rate)
    check_count("warmup_epoch", warmup_epoch, least=0)

    def rate(epoch: int) -> float:
        if not warmup_epoch:
            return learning_rate
        return learning_rate * min(epoch, warmup_epoch) / warmup_epoch

    return _by_epoch(rate, total_step, step_per_epoch)


def cosine(low: float, high: float, done: float) -> float:
    """Return the rate when `done` of half a cosine from high to low is behind."""
    return low + 0.5 * (high - low) * (1.0 + math.cos(math.pi * done))


def polynomial(
    rates: tuple[float, float],
    step: int,
    num_steps: int,
    power: float,
    *,
    is_updated: bool,
) -> float:
    """Return the rate on the way from one to the other."""
    first, last = rates
    if is_updated:
        num_steps *= max(1, math.ceil(step / num_steps))
    done = min(step, num_steps) / num_steps
    return float((first - last) * (1.0 - done) ** power + last)


def check_range(min_lr: object, max_lr: object) -> None:
    """Refuse rates that are not 0 <= min_lr < max_lr.

    Raises:
        TypeError, ValueError: they are not.
    """
    low, high = check_number("min_lr", min_lr), check_positive("max_lr", max_lr)
    if not 0.0 <= low < high:
        raise ValueError(
            f"min_lr must be 0 or more and below max_lr, {max_lr!r}, not {min_lr!r}"
        )


def _check(rate: object, decay: object, epoch: object, is_stair: object) -> None:
    check_positive("learning_rate", rate)
    check_positive("decay_rate", decay)
    check_count("decay_epoch", epoch, least=1)
    check_flag("is_stair", is_stair)


def _part(epoch: int, decay_epoch: int, *, is_stair: bool) -> float:
    return epoch // decay_epoch if is_stair else epoch / decay_epoch


def _by_epoch(
    rate: Callable[[int], float], total_step: int, step_per_epoch: int
) -> list[float]:
    check_count("total_step", total_step, least=1)
    check_count("step_per_epoch", step_per_epoch, least=1)
    return [rate(step // step_per_epoch) for step in range(total_step)]
