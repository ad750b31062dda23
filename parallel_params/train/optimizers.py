"""The optimizers of a job, made of its [optim] table.

One, or two: what moves whole matrices leaves the other parameters to AdamW.
"""

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

from parallel_params import optim as optimizers
from parallel_params.errors import CheckpointError, ConfigError
from parallel_params.nn.parameter import Parameter
from parallel_params.optim.groups import is_of_a_norm
from parallel_params.optim.matrices import is_matrix
from parallel_params.optim.optimizer import Optimizer
from parallel_params.optim.plateau import Mode, Plateau
from parallel_params.train.config.optim import (
    CommonOptim,
    ConstantSchedule,
    LarsOptim,
    MuonOptim,
    Optim,
    RpropOptim,
    SoapOptim,
)
from parallel_params.train.config.optim_common import GroupEntry
from parallel_params.train.config.schedules import Schedule
from parallel_params.train.config.words import did_you_mean
from parallel_params.train.schedule import make_schedule

_CLASSES: Mapping[str, Callable[..., Optimizer]] = {
    "sgd": optimizers.SGD,
    "momentum": optimizers.Momentum,
    "adam": optimizers.Adam,
    "adamw": optimizers.AdamW,
    "adamweightdecay": optimizers.AdamWeightDecay,
    "adamax": optimizers.AdaMax,
    "nadam": optimizers.NAdam,
    "radam": optimizers.RAdam,
    "adagrad": optimizers.Adagrad,
    "adadelta": optimizers.Adadelta,
    "rmsprop": optimizers.RMSProp,
    "rprop": optimizers.Rprop,
    "ftrl": optimizers.FTRL,
    "lion": optimizers.Lion,
    "lamb": optimizers.Lamb,
    "lars": optimizers.Momentum,
    "adafactor": optimizers.AdaFactor,
    "muon": optimizers.Muon,
    "soap": optimizers.SOAP,
    "schedulefree": optimizers.ScheduleFreeAdamW,
}
# What a job calls shorter than the constructor does.
_RENAMED = {
    ("adam", "amsgrad"): "use_amsgrad",
    ("nadam", "decoupled"): "decoupled_weight_decay",
    ("radam", "decoupled"): "decoupled_weight_decay",
    ("adadelta", "eps"): "epsilon",
    ("rmsprop", "eps"): "epsilon",
    ("muon", "adjust_lr"): "adjust_lr_fn",
}
_COMMON = frozenset(field.name for field in fields(CommonOptim))


@dataclass(frozen=True, slots=True, kw_only=True)
class Movers:
    """What moves the parameters of a job.

    Attributes:
        optimizers: over disjoint parameters, all of them together.
        plateaus: schedules that must be told every test score.
        plateau: that of `optim.lr`, if it is one.
    """

    optimizers: tuple[Optimizer, ...]
    plateaus: tuple[Plateau, ...]
    plateau: Plateau | None

    def snapshot(self) -> list[object]:
        """Return what `restore` needs, as JSON values."""
        return [plateau.state() for plateau in self.plateaus]

    def restore(self, saved: object, where: str) -> None:
        """Go on with the plateaus of an earlier part of the run.

        Args:
            saved: of `snapshot`, or None of a run without.
            where: it was found, for messages.

        Raises:
            CheckpointError: it is something else.
        """
        states = [] if saved is None or not self.plateaus else saved
        if not isinstance(states, list) or len(states) not in (0, len(self.plateaus)):
            raise CheckpointError(
                f"{where}: expected the states of {len(self.plateaus)} plateaus, found "
                f"{saved!r}"
            )
        try:
            for plateau, state in zip(self.plateaus, states, strict=False):
                plateau.load_state(state)
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{where}: plateaus: {error}") from error


def make_optimizers(
    optim: Optim, parameters: Sequence[Parameter], *, num_steps: int, mode: Mode
) -> Movers:
    """Make the optimizers of a job.

    Args:
        optim: the table.
        parameters: to be moved.
        num_steps: of the run.
        mode: whether less of the test score is better.

    Raises:
        ConfigError: a group matches no parameter; a matrix optimizer has no matrix; the
            run is too short for a schedule.
    """
    _check_matches(optim.group, parameters)
    rates = _Rates(optim, num_steps, mode)
    main = rates.of(optim.lr)
    made: list[Optimizer] = []
    if isinstance(optim, MuonOptim | SoapOptim):
        matrices = [p for p in parameters if is_matrix(p)]
        others = [p for p in parameters if not is_matrix(p)]
        if not matrices:
            raise ConfigError(
                [
                    f'optim.name: "{optim.name}" moves matrices, and the model has '
                    'none; "adamw" moves parameters of any shape'
                ]
            )
        made.append(_make(optim, matrices, rates, main))
        if others:
            made.append(_adamw(optim, others, rates))
    else:
        made.append(_make(optim, parameters, rates, main))
    if optim.ema.kind != "none":
        decay = optim.ema.decay if optim.ema.kind == "exponential" else None
        made = [optimizers.EMA(each, decay, optim.ema.start) for each in made]
    return Movers(
        optimizers=tuple(made),
        plateaus=tuple(rates.plateaus),
        plateau=main if isinstance(main, Plateau) else None,
    )


class _Rates:
    """Makes the learning rates of groups, and remembers which must be told scores."""

    def __init__(self, optim: CommonOptim, num_steps: int, mode: Mode) -> None:
        self._schedule = optim.schedule
        self._num_steps, self._mode = num_steps, mode
        self.plateaus: list[Plateau] = []

    def of(
        self,
        peak: float,
        schedule: Schedule | None = None,
        key: str = "optim.schedule",
    ) -> object:
        """Return what an optimizer takes as a learning rate."""
        table = self._schedule if schedule is None else schedule
        if isinstance(table, ConstantSchedule) and not table.warmup:
            return peak
        made = make_schedule(
            table, peak=peak, num_steps=self._num_steps, mode=self._mode, key=key
        )
        if isinstance(made, Plateau):
            self.plateaus.append(made)
            return made
        return [made(step) for step in range(self._num_steps)]


def _make(
    optim: Optim, parameters: Sequence[Parameter], rates: _Rates, main: object
) -> Optimizer:
    """Make the optimizer that a table names, on parameters that it can move.

    Raises:
        ConfigError: two settings contradict each other.
    """
    numbers = {
        _RENAMED.get((optim.name, field.name), field.name): getattr(optim, field.name)
        for field in fields(optim)
        if field.name not in _COMMON and field.name != "others"
    }
    if isinstance(optim, RpropOptim):
        numbers = {
            "weight_decay": optim.weight_decay,
            "etas": (optim.eta_minus, optim.eta_plus),
            "step_sizes": (optim.least_step, optim.largest_step),
        }
    lars = {
        key: numbers.pop(key)
        for key in ("coefficient", "epsilon", "use_clip")
        if isinstance(optim, LarsOptim)
    }
    if optim.name == "adafactor":
        numbers["relative_step"] = False
    params = _groups(optim, parameters, rates, optim.lr, optim.weight_decay)
    try:
        made = _CLASSES[optim.name](params, learning_rate=main, **numbers)
    except ValueError as error:
        raise ConfigError([f"optim: {error}"]) from error
    return optimizers.LARS(made, **lars) if isinstance(optim, LarsOptim) else made


def _adamw(
    optim: MuonOptim | SoapOptim, parameters: Sequence[Parameter], rates: _Rates
) -> Optimizer:
    """Make the optimizer of what is no matrix."""
    others = optim.others
    lr = optim.lr if others.lr is None else others.lr
    return optimizers.AdamW(
        _groups(optim, parameters, rates, lr, others.weight_decay),
        learning_rate=rates.of(lr),  # type: ignore[arg-type]  # a number, list or schedule
        beta1=others.beta1,
        beta2=others.beta2,
        eps=others.eps,
        weight_decay=others.weight_decay,
    )


def _groups(
    optim: CommonOptim,
    parameters: Sequence[Parameter],
    rates: _Rates,
    lr: float,
    weight_decay: float,
) -> Sequence[object]:
    """Return parameters as an optimizer takes them: in groups if the job has any.

    What is in no group keeps the habit of optimizers without groups: no decay for
    parameters of norms.
    """
    if not optim.group:
        return parameters
    members: dict[tuple[int, bool], list[Parameter]] = {}
    for parameter in parameters:
        matching = [
            index
            for index, entry in enumerate(optim.group)
            if fnmatch.fnmatchcase(parameter.name, entry.match)
        ]
        index = matching[-1] if matching else -1
        is_norm = is_of_a_norm(parameter.name)
        members.setdefault((index, is_norm), []).append(parameter)
    return [
        _group(optim.group, index, chosen, rates, lr, 0.0 if is_norm else weight_decay)
        for (index, is_norm), chosen in members.items()
    ]


def _group(
    entries: Sequence[GroupEntry],
    index: int,
    parameters: Sequence[Parameter],
    rates: _Rates,
    lr: float,
    weight_decay: float,
) -> dict[str, object]:
    entry = entries[index] if index >= 0 else None
    group: dict[str, object] = {"params": parameters, "weight_decay": weight_decay}
    if entry is None:
        return group
    if entry.weight_decay is not None:
        group["weight_decay"] = entry.weight_decay
    if entry.lr is not None or entry.schedule is not None:
        peak = lr if entry.lr is None else entry.lr
        key = f"optim.group.{index}.schedule" if entry.schedule else "optim.schedule"
        group["lr"] = rates.of(peak, entry.schedule, key)
    return group


def _check_matches(
    entries: Sequence[GroupEntry], parameters: Sequence[Parameter]
) -> None:
    names = [parameter.name for parameter in parameters]
    problems = [
        f"optim.group.{index}.match: no parameter is called {entry.match!r}"
        f"{did_you_mean(entry.match, names) or '.'} There are {', '.join(names)}"
        for index, entry in enumerate(entries)
        if not fnmatch.filter(names, entry.match)
    ]
    if problems:
        raise ConfigError(problems)
