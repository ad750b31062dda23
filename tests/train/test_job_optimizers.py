"""Every optimizer and schedule a job can name, its groups, and what is refused."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from parallel_params import optim
from parallel_params.comm.local import run_threads
from parallel_params.errors import ConfigError
from parallel_params.nn.parameter import Parameter
from parallel_params.tensor.tensor import Tensor
from parallel_params.train.config import keys, load_job
from parallel_params.train.config.optim import Optim
from parallel_params.train.console import Console
from parallel_params.train.loop import train
from parallel_params.train.optimizers import Movers, make_optimizers
from parallel_params.train.result import TrainResult

DIGITS = Path(__file__).parents[2] / "configs" / "digits.toml"
NUM_STEPS = 8
OPTIM: TypeAdapter[Optim] = TypeAdapter(Optim)


def choices(key: str) -> list[str]:
    return [k.type.strip('"') for k in keys() if k.name == key]


def parameters() -> list[Parameter]:
    rng = np.random.default_rng(2)
    shapes = {"0.weight": (3, 4), "0.bias": (3,), "1.gamma": (3,)}
    return [
        Parameter(Tensor(np.asarray(rng.normal(size=shape), np.float32)), name=name)
        for name, shape in shapes.items()
    ]


def movers(table: dict[str, Any], on: Sequence[Parameter] | None = None) -> Movers:
    read: Optim = OPTIM.validate_python({"lr": 0.1, **table})
    return make_optimizers(read, on or parameters(), num_steps=NUM_STEPS, mode="min")


CLASSES = {
    "sgd": optim.SGD,
    "momentum": optim.Momentum,
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "adamweightdecay": optim.AdamWeightDecay,
    "adamax": optim.AdaMax,
    "nadam": optim.NAdam,
    "radam": optim.RAdam,
    "adagrad": optim.Adagrad,
    "adadelta": optim.Adadelta,
    "rmsprop": optim.RMSProp,
    "rprop": optim.Rprop,
    "ftrl": optim.FTRL,
    "lion": optim.Lion,
    "lamb": optim.Lamb,
    "lars": optim.LARS,
    "adafactor": optim.AdaFactor,
    "muon": optim.Muon,
    "soap": optim.SOAP,
    "schedulefree": optim.ScheduleFreeAdamW,
}


def test_every_optimizer_of_the_library_can_be_named() -> None:
    assert sorted(choices("optim.name")) == sorted(CLASSES)
    assert {*CLASSES.values(), optim.EMA, optim.Optimizer} == {
        value
        for value in vars(optim).values()
        if isinstance(value, type) and issubclass(value, optim.Optimizer)
    }


@pytest.mark.parametrize("name", CLASSES)
def test_an_optimizer_that_is_named_moves_every_parameter(name: str) -> None:
    on = parameters()
    before = [p.asnumpy().copy() for p in on]
    made = movers({"name": name}, on).optimizers
    assert type(made[0]) is CLASSES[name]
    for each in made * 2:  # the first step of SOAP moves nothing
        each(tuple(Tensor(np.ones(p.shape, np.float32)) for p in each.parameters))
    for p, start in zip(on, before, strict=True):
        assert (p.asnumpy() != start).all(), p.name


SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "amsgrad": ({"name": "adamw", "amsgrad": True}, "is_decoupled=True"),
    "amsgrad of adam": ({"name": "adam", "amsgrad": True}, "AmsGradRule(beta1=0.9"),
    "nadam": ({"name": "nadam", "decoupled": True}, "is_decoupled=True"),
    "rmsprop": ({"name": "rmsprop", "eps": 0.5}, "eps=0.5"),
    "rprop": ({"name": "rprop", "eta_plus": 1.5}, "eta_plus=1.5"),
    "lars": ({"name": "lars", "coefficient": 0.25}, "coefficient=0.25"),
    "adafactor": ({"name": "adafactor"}, "relative_step=False"),
    "muon": ({"name": "muon", "adjust_lr": "match_rms_adamw"}, "match_rms_adamw"),
    "ema": (
        {"name": "sgd", "ema": {"kind": "exponential", "decay": 0.5, "start": 3}},
        "averaging=Averaging(decay=0.5, start=3)",
    ),
    "mean": ({"name": "sgd", "ema": {"kind": "mean"}}, "Averaging(decay=None"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_reach_the_rule(name: str) -> None:
    table, text = SETTINGS[name]
    assert text in repr(movers(table).optimizers[0].rule)


def test_what_is_no_matrix_is_left_to_adamw_with_numbers_of_its_own() -> None:
    muon, others = movers(
        {"name": "muon", "others": {"lr": 0.3, "weight_decay": 0.5}}
    ).optimizers
    assert [p.name for p in muon.parameters] == ["0.weight"]
    assert [p.name for p in others.parameters] == ["0.bias", "1.gamma"]
    assert isinstance(others, optim.AdamW)
    assert (muon.rates(0), others.rates(0)) == ((0.1,), (0.3,))
    assert others.settings(0).weight_decay == 0.5


def test_groups_take_their_numbers_and_the_last_that_matches_counts() -> None:
    (made,) = movers(
        {
            "name": "adamw",
            "weight_decay": 0.5,
            "schedule": {"kind": "linear"},
            "group": [
                {"match": "0.*", "lr": 0.2},
                {
                    "match": "*.bias",
                    "weight_decay": 0.0,
                    "schedule": {"kind": "constant"},
                },
            ],
        }
    ).optimizers
    by_name = {p.name: made.settings(i) for i, p in enumerate(made.parameters)}
    assert {name: s.weight_decay for name, s in by_name.items()} == {
        "0.weight": 0.5,
        "0.bias": 0.0,
        "1.gamma": 0.0,  # of a norm, as without groups
    }
    rates = made.rates(NUM_STEPS // 2)
    found = {name: rates[settings.group] for name, settings in by_name.items()}
    assert found == {"0.weight": 0.1, "0.bias": 0.1, "1.gamma": 0.05}


def test_groups_of_a_matrix_optimizer_reach_what_is_no_matrix() -> None:
    _, others = movers(
        {"name": "soap", "group": [{"match": "*.bias", "weight_decay": 0.25}]}
    ).optimizers
    by_name = {p.name: others.settings(i) for i, p in enumerate(others.parameters)}
    assert by_name["0.bias"].weight_decay == 0.25


SCHEDULES: dict[str, dict[str, Any]] = {
    "constant": {},
    "linear": {},
    "polynomial": {},
    "cosine": {},
    "cosine-restarts": {"period": 2},
    "inverse-sqrt": {},
    "step": {"every": 2},
    "multi-step": {"milestones": [2]},
    "exponential": {"every": 2},
    "wsd": {"decay": 3},
    "plateau": {},
    "one-cycle": {},
}


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("warmup", [0, 2])
def test_every_schedule_can_be_named_with_a_warm_up(kind: str, warmup: int) -> None:
    table = {"kind": kind, **SCHEDULES[kind]}
    if kind != "one-cycle":
        table["warmup"] = warmup
    made = movers({"name": "sgd", "schedule": table})
    rates = [made.optimizers[0].rates(step)[0] for step in range(NUM_STEPS)]
    assert max(rates) == pytest.approx(0.1, rel=0.1)
    if warmup and kind != "one-cycle":
        assert rates[:2] == pytest.approx([0.05, 0.1])
    assert len(made.plateaus) == (kind == "plateau")


def test_every_schedule_is_tried() -> None:
    assert sorted(choices("optim.schedule.kind")) == sorted(SCHEDULES)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "warm-up": (
        {"schedule": {"kind": "cosine", "warmup": 8}},
        "optim.schedule.warmup: 8 steps of warm-up leave none of the run's 8",
    ),
    "decay": (
        {"schedule": {"kind": "wsd", "decay": 7, "warmup": 2}},
        "optim.schedule.decay: a decay of 7 steps does not fit in 6",
    ),
    "milestone": (
        {"schedule": {"kind": "multi-step", "milestones": [2, 8]}},
        "optim.schedule.milestones: 8 is not reached in 8 steps",
    ),
    "milestones": (
        {"schedule": {"kind": "multi-step", "milestones": [4, 2]}},
        r"optim.schedule.milestones: milestones must be ascending, not \(4, 2\)",
    ),
    "two at once": (
        {"name": "adam", "amsgrad": True, "use_nesterov": True},
        "optim: Adam takes use_nesterov or use_amsgrad, not both",
    ),
    "steps of rprop": (
        {"name": "rprop", "least_step": 60.0},
        "optim: step_sizes must be ascending",
    ),
    "schedule of a group": (
        {"group": [{"match": "*", "schedule": {"kind": "linear", "warmup": 9}}]},
        "optim.group.0.schedule.warmup: 9 steps",
    ),
    "match": (
        {"group": [{"match": "0.biass"}]},
        "optim.group.0.match: no parameter is called '0.biass'; did you mean",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_the_run_or_the_model_is_refused(name: str) -> None:
    table, text = REFUSED[name]
    with pytest.raises(ConfigError, match=text):
        movers({"name": "sgd", **table})


def test_a_matrix_optimizer_without_a_matrix_is_refused() -> None:
    with pytest.raises(ConfigError, match="moves matrices, and the model has none"):
        movers({"name": "muon"}, parameters()[1:])


def run(size: int, *overrides: str) -> TrainResult:
    job = load_job(
        DIGITS,
        [
            "data.batch=16",
            "model.hidden=[9]",
            "parallel.shard_threshold=64",
            "train.steps=6",
            "train.eval_every=1",
            *overrides,
        ],
    )
    console = Console(stream=io.StringIO())
    return run_threads(size, lambda comm: train(job, comm, console))[0]


@pytest.fixture
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_in_an_empty_folder")
def test_two_optimizers_groups_and_an_average_have_the_bits_of_one_rank() -> None:
    words = (
        'optim={name="muon", lr=0.02, ema={kind="exponential", decay=0.5}, '
        'schedule={kind="plateau", patience=0, factor=0.5}, '
        'group=[{match="*.bias", weight_decay=0.0, lr=0.01}]}'
    )
    hashes = {
        run(size, words, f"parallel.level={level}").weights_hash
        for size, level in [(1, 0), (2, 2), (4, 3)]
    }
    assert len(hashes) == 1


@pytest.mark.usefixtures("_in_an_empty_folder")
def test_a_plateau_lowers_the_rate_of_a_run() -> None:
    plain, lowered = (
        run(
            1,
            'optim={name="sgd", lr=1.0, schedule={kind="plateau", '
            f"threshold={threshold}, patience=0}}}}",
        )
        for threshold in (0.0, 0.5)
    )
    assert plain.weights_hash != lowered.weights_hash
