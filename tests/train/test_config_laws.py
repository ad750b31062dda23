"""What holds for every job: written and read again it is equal."""

import dataclasses
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_params.plan import guards, policy
from parallel_params.train.config import (
    Job,
    data,
    dump_job,
    format_bytes,
    keys,
    load_job,
    loss,
    models,
    optim,
    parse_bytes,
    schema,
    schema_text,
)
from parallel_params.train.config import job as tables
from parallel_params.train.config.load import job_adapter
from parallel_params.train.config.sizes import UNITS

CONFIGS = Path(__file__).parents[2] / "configs"
SHIPPED = sorted(CONFIGS.glob("*.toml"))

counts = st.integers(1, 10**6)
rates = st.floats(1e-9, 1e3)
texts = st.text(
    st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=8
)
names = texts.filter(lambda text: "/" not in text and text[0] != ".")
schedules = st.one_of(
    st.builds(optim.ConstantSchedule),
    st.builds(
        optim.LinearSchedule,
        kind=st.just("linear"),
        warmup=st.integers(0, 9),
        final=st.floats(0, 1),
    ),
)
flag_overrides = st.builds(
    tables.FlagOverride,
    match=texts,
    parallel_optimizer=st.booleans(),
    comm_fusion=st.none() | st.integers(0, 3),
    level=st.none() | st.sampled_from([0, 1, 2, 3]),
)
jobs = st.builds(
    Job,
    title=st.text(st.characters(codec="utf-8"), max_size=8),
    seed=st.integers(0, 2**63 - 1),
    data=st.builds(
        data.NpzData,
        name=st.just("npz"),
        path=texts,
        batch=counts.map(lambda n: 4 * n),
    ),
    model=st.builds(
        models.MlpModel,
        kind=st.just("mlp"),
        hidden=st.lists(counts, max_size=3).map(tuple),
        activation=st.sampled_from(["relu", "gelu", "tanh", "sigmoid"]),
    ),
    loss=st.builds(loss.TaskLoss)
    | st.builds(
        loss.FunctionLoss,
        kind=st.just("function"),
        function=st.just("mine:loss"),
        options=st.dictionaries(names, st.booleans() | counts | texts, max_size=2),
    ),
    optim=st.builds(
        optim.AdamWOptim,
        name=st.just("adamw"),
        lr=rates,
        eps=rates,
        weight_decay=st.floats(0, 9),
        schedule=schedules,
        clip_norm=st.none() | rates,
        non_finite=st.sampled_from(["ignore", "raise", "skip"]),
        loss_scale=st.none() | rates | st.just("dynamic"),
    ),
    parallel=st.builds(
        tables.Parallel,
        level=st.sampled_from([0, 1, 2, 3]),
        bucket=counts,
        grains=st.none() | st.sampled_from([1, 2, 4]),
        override=st.lists(flag_overrides, max_size=2).map(tuple),
    ),
    train=st.builds(tables.Train, steps=st.none(), epochs=counts, eval_every=counts),
    run=st.builds(tables.Run, folder=st.none() | texts, name=names),
)


@given(job=jobs)
def test_a_dumped_job_loads_to_an_equal_job(
    tmp_path_factory: pytest.TempPathFactory, job: Job
) -> None:
    path = tmp_path_factory.getbasetemp() / "dumped.toml"
    path.write_text(dump_job(job), encoding="utf-8", newline="")
    assert load_job(path) == job


@given(job=jobs)
def test_toml_and_json_give_the_same_job(
    tmp_path_factory: pytest.TempPathFactory, job: Job
) -> None:
    path = tmp_path_factory.getbasetemp() / "dumped.json"
    path.write_bytes(job_adapter().dump_json(job))
    assert load_job(path) == job


@given(number=st.integers(0, 1023), unit=st.sampled_from(list(UNITS)))
def test_bytes_written_with_a_unit_are_read_back(number: int, unit: str) -> None:
    num_bytes = number * UNITS[unit]
    assert parse_bytes(f"{number} {unit}") == num_bytes
    assert parse_bytes(format_bytes(num_bytes)) == num_bytes


@pytest.mark.parametrize("text", ["", "KiB", "1 MB", "-1 B", "0.3 B", "1e3 B", "1 2 B"])
def test_what_is_no_size_in_bytes_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_bytes(text)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_job_is_valid_and_names_its_schema(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("#:schema ./schema.json\n")
    assert load_job(path).run.name == path.stem


def test_there_are_shipped_jobs() -> None:
    assert "digits.toml" in [path.name for path in SHIPPED]


def test_a_shipped_job_is_found_by_its_bare_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_job("digits") == load_job(CONFIGS / "digits.toml")


def test_the_committed_schema_is_not_stale() -> None:
    committed = (CONFIGS / "schema.json").read_text(encoding="utf-8")
    remedy = "write `schema_text()` of parallel_params.train.config to it"
    assert committed == schema_text(), f"configs/schema.json is stale: {remedy}"


def test_every_key_has_a_meaning_of_one_line() -> None:
    assert [key.name for key in keys() if not key.meaning.strip()] == []
    assert [key.name for key in keys() if "\n" in key.meaning] == []


def test_the_keys_are_those_of_the_tables() -> None:
    known = {key.name for key in keys()}
    for field in dataclasses.fields(tables.Parallel):
        assert f"parallel.{field.name}" in known
    for table in (tables.Train, tables.Log, tables.Run):
        for field in dataclasses.fields(table):
            assert f"{table.__name__.lower()}.{field.name}" in known


def test_a_key_of_one_choice_says_so() -> None:
    (centered,) = [key for key in keys() if key.name == "optim.centered"]
    assert centered.when == ('name = "rmsprop"',)
    assert (centered.type, centered.default) == ("true | false", "false")


def test_the_schema_describes_every_key_it_has() -> None:
    definitions = schema()["$defs"]
    assert isinstance(definitions, dict)
    for table in definitions.values():
        assert table["additionalProperties"] is False
        for field in table["properties"].values():
            assert "description" in field or "$ref" in field, field


def test_an_override_is_toml_or_else_plain_text() -> None:
    job = load_job(
        CONFIGS / "digits.toml",
        [
            "title=two words",
            "seed = 0x10",
            "model.hidden=[4, 5]",
            "model.hidden.1=6",
            "optim={name='sgd', lr=1}",
            "parallel.bucket=2 KiB",
            "run.folder='7'",
        ],
    )
    assert isinstance(job.model, models.MlpModel)
    assert (job.title, job.seed, job.model.hidden) == ("two words", 16, (4, 6))
    assert (job.optim.lr, job.parallel.bucket, job.run.folder) == (1.0, 2048, "7")


def choices(table: type, name: str) -> set[object]:
    hint = get_type_hints(table)[name]
    inner = [arg for arg in get_args(hint) if get_origin(arg) is Literal] or [hint]
    return set(get_args(inner[0]))


def test_a_job_may_choose_what_a_plan_knows() -> None:
    assert choices(tables.Parallel, "reduction") == {*get_args(policy.Reduction)}
    assert choices(tables.Parallel, "transport") == {*get_args(policy.Transport)}
    assert choices(tables.Parallel, "wire_dtype") == {*get_args(policy.WireDtype)}
    assert choices(optim.CommonOptim, "non_finite") == {*get_args(policy.NonFinite)}
    assert choices(optim.CommonOptim, "clip_per") == {*get_args(guards.ClipScope)}
