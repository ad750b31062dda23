"""The weights to evaluate with in the place of the weights, for a while, on all ranks.

Owners put them there from their part of the optimizer's state, and publish them as they
publish after a step. Steps are refused meanwhile.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from parallel_params.comm.protocol import Communicator
from parallel_params.runtime.course import Course
from parallel_params.runtime.runtime import Runtime
from parallel_params.runtime.step import Step
from parallel_params.tensor.tape import Array


@contextmanager
def evaluating(runtime: Runtime, comm: Communicator, course: Course) -> Iterator[None]:
    """Make all weights whole for a while, and those that the rules evaluate with.

    If the body raises, this rank puts back what it owns and leaves the other ranks
    alone, which may be anywhere; in a world of several, `course` stays paused.

    Args:
        runtime: whose weights.
        comm: all ranks.
        course: paused meanwhile.

    Collective: all ranks.
    """
    step = runtime.step
    has_evaluation = any(each.stepper.has_evaluation for each in step.exchanges)
    if not (course.num_steps and has_evaluation):
        course.is_evaluating = True
        try:
            with runtime.unsharded():
                yield
        finally:
            course.is_evaluating = False
        return
    comm.barrier()  # somebody may still be reading the weights
    kept = [each.arena.updated_weight.copy() for each in step.exchanges]
    for each in step.exchanges:
        each.stepper.show_evaluation()
    step.publish()
    course.is_evaluating = True
    try:
        with runtime.unsharded():
            yield
    except BaseException:
        _put_back(step, kept)
        course.is_evaluating = comm.size > 1
        raise
    comm.barrier()
    _put_back(step, kept)
    step.publish()
    course.is_evaluating = False


def _put_back(step: Step, kept: Sequence[Array]) -> None:
    """Write the weights that this rank updates; nobody else sees them yet."""
    for exchange, values in zip(step.exchanges, kept, strict=True):
        np.copyto(exchange.arena.updated_weight, values)
