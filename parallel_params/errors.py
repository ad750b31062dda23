"""Every exception a user can see, with its cause and its remedy.

Nothing here decides anything: the floors above raise, this file names. Each class also
derives from the built-in exception that a caller would expect, so `except ValueError`
keeps working.
"""

from collections.abc import Sequence


class ParallelParamsError(Exception):
    """Base of all errors of this package. Catch it to catch them all."""


class PlanError(ParallelParamsError, ValueError):
    """Parameters, mesh or policy contradict each other.

    Cause: for instance grains that the world size does not divide, or two parameters of
    one name. Remedy: the message names the object and the values that would work.
    """


class PlanOutdated(ParallelParamsError, RuntimeError):
    """Flags of parameters were set that the manager's plan does not know yet.

    Cause: `requires_grad`, `parallel_optimizer`, `layerwise_parallel` or `comm_fusion`
    of a managed parameter was changed. Remedy: `manager.replan()` on all ranks before
    the next step, or set the flag back. No weight has changed.
    """


class PlanMismatch(ParallelParamsError, RuntimeError):
    """The ranks did not build the same model, optimizer, policy or mesh.

    Cause: a model, flag, dtype, learning rate or order of calls that depends on the
    rank. Remedy: do the same on every rank; the message names what differs and where.
    """


class CommunicationError(ParallelParamsError, RuntimeError):
    """A collective was called with buffers that cannot be sent.

    Cause: a buffer that is not contiguous, not writeable or not of the announced size.
    """


class RankFailed(ParallelParamsError, RuntimeError):
    """A rank raised, so every rank of the world raises.

    Cause: the exception of the rank named in `rank`; its text is part of the message.

    Attributes:
        rank: the first rank that failed.
    """

    def __init__(self, message: str, *, rank: int) -> None:
        super().__init__(message)
        self.rank = rank


class LaunchError(ParallelParamsError, RuntimeError):
    """A world of ranks cannot be started, or is not the one that was asked for.

    Cause: no MPI library, two MPI wheels at once, or the launcher of one MPI with the
    library of another. Remedy: in the message; `pparams doctor` looks for all of them.
    """


class ConfigError(ParallelParamsError, ValueError):
    """A job file or an override is wrong.

    Attributes:
        problems: one line per problem, `file:line: key: what is wrong (got ...)`.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class DataError(ParallelParamsError, ValueError):
    """A data file is missing, foreign or damaged; the message says which and why."""


class RunFolderExists(ParallelParamsError, FileExistsError):
    """The run folder is already there, and runs are never overwritten.

    Remedy: another `run.folder`, or move the old run away.
    """


class RunFolderError(ParallelParamsError, OSError):
    """A file of a run cannot be written.

    Cause: a full disk, or a run folder that was taken away. Remedy: make room, or give
    another `run.folder`; the message has what the system says.
    """


class ManagedOptimizerError(ParallelParamsError, RuntimeError):
    """An optimizer that a `ParameterManager` has adopted was called directly.

    Its state is sharded, so a call on one rank alone cannot step it. Remedy: call
    `manager.step(...)` or `manager.update(gradients)` on every rank.
    """


class BrokenLaw(ParallelParamsError, AssertionError):
    """An optimizer rule breaks a law that sharding, resuming or clipping relies on.

    The message names every broken law, a case that breaks it, the elements that differ,
    and the call that tries that case again. Remedy: mend the rule, or its `structure`.
    """


class ManagerClosed(ParallelParamsError, RuntimeError):
    """A `ParameterManager` was used after its `close()`, or after its `with`.

    Remedy: make a new manager on the same parameters, with a new optimizer.
    """


class TrainingDiverged(ParallelParamsError, ArithmeticError):
    """The loss of a step is infinite or no number, so further steps are worthless.

    Remedy: a lower learning rate, or a longer warm-up; the message names the step.
    """


class TrainingStopped(ParallelParamsError):
    """A run was asked to stop by a signal; it has saved a checkpoint and ended.

    Remedy: the same command with `--resume auto` goes on from there.
    """


class GradientError(ParallelParamsError, RuntimeError):
    """Gradients given by hand do not fit the parameters they are for.

    Cause: a list or a bare tensor where a tuple is wanted, too few or too many, another
    shape or no floating-point type. Remedy: the message names the first wrong one.
    """


class NonFiniteGradient(ParallelParamsError):
    """A gradient is infinite or no number, and the policy is to say so.

    Raised on all ranks before any weight has moved; it names the first element, its
    parameter, and the rank it came from. Lower the learning rate, look at the batch, or
    choose `Policy(non_finite="skip")`.
    """


class NonFiniteValue(ParallelParamsError, FloatingPointError):
    """An operator was given, or made, an infinite number or no number.

    Raised inside of `debug.check_finite()`, at the first operator; it names operator,
    cell, shapes, and the first element. Look at the data if the operator was given it,
    else at the operator's input: a logarithm or root of what is not positive, an
    exponential of much, a quotient by zero.
    """


class KernelsUnavailable(ParallelParamsError, ImportError):
    """The compiled kernels were asked for where their compiler is not installed.

    Remedy: `pip install 'parallel-params[fast]'`, or the kernels "numpy".
    """


class KernelsChanged(ParallelParamsError, RuntimeError):
    """Another set of kernels was chosen after a `ParameterManager` was made.

    It may give other bits, so no step is taken with it. Remedy: `set_kernels` before
    the manager is made, and a new manager for another set.
    """


class CheckpointError(ParallelParamsError, ValueError):
    """A checkpoint cannot be read: it is missing, incomplete, foreign or too new.

    Nothing of it has been loaded. The message names the file, what was expected there
    and what was found.
    """


class CheckpointDamaged(CheckpointError):
    """Bytes of a checkpoint are not those that were saved.

    Cause: a disk, a copy that was cut short, somebody's editor. Remedy: load an earlier
    checkpoint; `pparams ckpt verify` says which are whole.
    """


class CheckpointMismatch(CheckpointError):
    """A checkpoint is whole, but not one of this net and optimizer.

    The message names the first parameter or state that does not fit, and near names.
    Remedy: build what was saved, or load weights alone, or with `strict=False`.
    """


class CheckpointNotSaved(ParallelParamsError, OSError):
    """A checkpoint could not be written; those that were there are untouched.

    Cause: a full disk, a folder without permission, a path that exists already. The
    message has what the system says. Training may go on: no weight has changed.
    """


class CheckpointFolderMissing(CheckpointNotSaved, FileNotFoundError):
    """The folder that a file of weights should be saved in is not there."""


class ParametersDoNotFit(CheckpointMismatch, RuntimeError):
    """Loaded parameters are of another shape or type than the net's, or not all there.

    Nothing was written into the net. The message names them, and near names.
    """
