"""Each sentence a wrong job file gets, word for word."""

# ruff: noqa: E501  the sentences stand as a user sees them, whole

from pathlib import Path

import pytest

from parallel_params.errors import ConfigError
from parallel_params.train.config import load_job

GOOD = """\
title = "a job"
seed = 3

[data]
name = "digits"
batch = 96

[model]
kind = "mlp"
hidden = [8]

[optim]
name = "adamw"
lr = 0.01
schedule = { kind = "cosine", warmup = 5 }

[parallel]
grains = 4

[train]
steps = 20

[log]
every = 5

[run]
name = "job"
"""


def problems(path: Path, *overrides: str) -> tuple[str, ...]:
    """Load a job that must be refused; give its sentences without the folder's name."""
    with pytest.raises(ConfigError) as caught:
        load_job(path, overrides)
    folder = f"{path.parent}/"
    return tuple(line.replace(folder, "") for line in caught.value.problems)


def job_file(folder: Path, text: str = GOOD, name: str = "job.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


OPTIMIZERS = (
    '"sgd", "momentum", "adam", "adamw", "adamweightdecay", "adamax", "nadam", '
    '"radam", "adagrad", "adadelta", "rmsprop", "rprop", "ftrl", "lion", "lamb", '
    '"lars", "adafactor", "muon", "soap" or "schedulefree"'
)

LINES = [
    # A line of the good job, what stands there instead, the sentence.
    ("title =", "title = 5", 'job.toml:1: title: expected a text in "quotes" (got 5)'),
    ("seed =", "seed = -1", "job.toml:2: seed: expected 0 or more (got -1)"),
    ("seed =", "sead = 1", 'job.toml:2: sead: unknown key; did you mean "seed"? (got 1)'),
    (
        "batch =",
        "batch = 0",
        "job.toml:6: data.batch: expected 1 or more (got 0)",
    ),
    (
        "batch =",
        "batch = 98",
        "job.toml:6: data.batch: 98 samples cannot be cut into 4 equal grains "
        "(parallel.grains); the nearest batches are 96 or 100, the nearest grains 2 or 7",
    ),
    (
        'name = "digits"',
        'name = "digit"',
        'job.toml:5: data.name: expected "digits", "mnist5000", "wine", "npz", "npy", '
        '"csv", "topics", "text", "tokens", "clusters" or "function"; did you mean "digits"? '
        '(got "digit")',
    ),
    (
        'name = "digits"',
        'name = "npz"',
        "job.toml:4: data.path: missing; the .npz file, relative to the folder the job "
        "is started in.",
    ),
    (
        "kind = \"mlp\"",
        'kind = "mpl"',
        'job.toml:9: model.kind: expected "mlp", "convnet", "gpt", "classes" or "function"; '
        'did you mean "mlp"? (got "mpl")',
    ),
    (
        "hidden =",
        "hidden = [8, 0]",
        "job.toml:10: model.hidden.1: expected 1 or more (got 0)",
    ),
    (
        "hidden =",
        "hidden = 8",
        "job.toml:10: model.hidden: expected a list in [brackets] (got 8)",
    ),
    (
        'name = "adamw"',
        'name = "adamww"',
        f'job.toml:13: optim.name: expected {OPTIMIZERS}; did you mean "adamw"? (got '
        '"adamww")',
    ),
    (
        'name = "adamw"',
        "",
        f"job.toml:12: optim.name: missing; expected {OPTIMIZERS}",
    ),
    ("lr =", "lr = 0.0", "job.toml:14: optim.lr: expected more than 0 (got 0.0)"),
    ("lr =", "lr = inf", "job.toml:14: optim.lr: expected a finite number (got Infinity)"),
    ("lr =", 'lr = "1e-3"', 'job.toml:14: optim.lr: expected a number (got "1e-3")'),
    ("lr =", "", "job.toml:12: optim.lr: missing; learning rate, before the schedule."),
    (
        "lr =",
        "lr = 1.0\nloss_scale = 0",
        'job.toml:15: optim.loss_scale: expected a number above 0, or "dynamic" (got 0)',
    ),
    (
        "lr =",
        'lr = 1.0\nloss_scale = "dynamic"\nnon_finite = "zero"',
        'job.toml:16: optim.non_finite: "zero" hides the steps that a dynamic loss scale '
        'has to see; use "skip", or a number as optim.loss_scale',
    ),
    (
        "lr =",
        'lr = 1.0\nclip_per = "group"',
        "job.toml:15: optim.clip_per: says whose norm is bounded, but there is no "
        "optim.clip_norm; give one",
    ),
    (
        "grains =",
        'reduction = "fast"\nwire_dtype = "bfloat16"',
        'job.toml:19: parallel.wire_dtype: needs parallel.reduction = "canonical"; "fast" '
        "leaves the sums to MPI, which sums what travels",
    ),
    (
        "grains =",
        'transport = "windows"',
        'job.toml:18: parallel.transport: expected "auto", "window" or "messages"; did '
        'you mean "window"? (got "windows")',
    ),
    (
        "schedule =",
        'schedule = { kind = "cosin" }',
        'job.toml:15: optim.schedule.kind: expected "constant", "linear", "polynomial", '
        '"cosine", "cosine-restarts", "inverse-sqrt", "step", "multi-step", '
        '"exponential", "wsd", "plateau" or "one-cycle"; did you mean "cosine"? (got '
        '"cosin")',
    ),
    (
        "schedule =",
        'schedule = { kind = "constant", final = 0.5 }',
        'job.toml:15: optim.schedule.final: unknown key when kind = "constant" (got 0.5)',
    ),
    (
        "schedule =",
        'schedule = { kind = "cosine", warmup = 20 }',
        "job.toml:15: optim.schedule.warmup: 20 steps of warm-up leave none of "
        "train.steps = 20",
    ),
    (
        "grains =",
        "level = 4",
        "job.toml:18: parallel.level: expected 0, 1, 2 or 3 (got 4)",
    ),
    (
        "grains =",
        'bucket = "1 MB"',
        'job.toml:18: parallel.bucket: expected bytes, as in 65536 or "64 KiB" '
        '(B, KiB, MiB, GiB, TiB) (got "1 MB")',
    ),
    (
        "grains =",
        "override = [{ match = '0.*' }]",
        "job.toml:18: parallel.override.0: sets no flag; give one of "
        "parallel_optimizer, layerwise_parallel, comm_fusion, level",
    ),
    (
        "grains =",
        "override = [{ match = '0.*', paralel_optimizer = false }]",
        "job.toml:18: parallel.override.0.paralel_optimizer: unknown key; did you mean "
        '"parallel_optimizer"? (got false)',
    ),
    (
        "steps =",
        "steps = 2.5",
        "job.toml:21: train.steps: expected a whole number (got 2.5)",
    ),
    (
        "steps =",
        "steps = true",
        "job.toml:21: train.steps: expected a whole number (got true)",
    ),
    (
        "steps =",
        "",
        "job.toml:20: train: how long? give steps or epochs, as in steps = 600",
    ),
    (
        "steps =",
        "steps = 20\nepochs = 2",
        "job.toml:22: train.epochs: either steps or epochs, not both "
        "(steps = 20, epochs = 2)",
    ),
    (
        "[log]",
        "[lig]",
        'job.toml:23: lig: unknown key; did you mean "log"? (got {"every": 5})',
    ),
    (
        "every =",
        'progress = "pain"',
        'job.toml:24: log.progress: expected "auto", "bar", "plain" or "off"; '
        'did you mean "plain"? (got "pain")',
    ),
    ("name = \"job\"", 'name = ""', 'job.toml:27: run.name: expected a text that is not '
     'empty (got "")'),
]  # fmt: skip


@pytest.mark.parametrize(("line", "instead", "sentence"), LINES)
def test_each_mistake_is_named_with_its_line(
    tmp_path: Path, line: str, instead: str, sentence: str
) -> None:
    lines = GOOD.splitlines()
    place = next(n for n, text in enumerate(lines) if text.startswith(line))
    lines[place] = instead
    assert problems(job_file(tmp_path, "\n".join(lines))) == (sentence,)


OVERRIDES = [
    ("lr", 'override "lr": expected key=value, as in optim.lr=0.001'),
    ("optim..lr=1", 'override "optim..lr=1": expected key=value, as in optim.lr=0.001'),
    (
        "optim.lr=fast",
        'override "optim.lr=fast": optim.lr: expected a number (got "fast")',
    ),
    (
        "optim.wieght_decay=0",
        'override "optim.wieght_decay=0": optim.wieght_decay: unknown key when '
        'name = "adamw"; did you mean "weight_decay"? (got 0)',
    ),
    ("seed.x=3", 'override "seed.x=3": seed is no table, so it has no key "x"'),
    (
        "model.hidden.4=3",
        'override "model.hidden.4=3": model.hidden has 1 entries, counted from 0; no "4"',
    ),
    (
        "parallel.grains=5",
        "job.toml:6: data.batch: 96 samples cannot be cut into 5 equal grains "
        "(parallel.grains); the nearest batches are 95 or 100, the nearest grains 4 or 6",
    ),
]


@pytest.mark.parametrize(("word", "sentence"), OVERRIDES)
def test_each_wrong_override_is_named_as_it_was_given(
    tmp_path: Path, word: str, sentence: str
) -> None:
    assert problems(job_file(tmp_path), word) == (sentence,)


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = GOOD.replace("seed = 3", "seed = -3").replace("batch = 96", "batch = 97")
    found = problems(job_file(tmp_path, text), "train.steps=many", "nonsense")
    assert [line.partition(": ")[0] for line in found] == [
        "job.toml:2",
        "job.toml:6",
        'override "train.steps=many"',
        'override "nonsense"',
    ]


def test_a_rule_is_silent_about_keys_that_are_wrong_themselves(tmp_path: Path) -> None:
    text = GOOD.replace("batch = 96", "batch = -97")
    assert len(problems(job_file(tmp_path, text))) == 1


def test_near_names_come_only_from_the_table_the_key_stands_in(tmp_path: Path) -> None:
    (line,) = problems(job_file(tmp_path), "train.lrr=0.1")
    assert "did you mean" not in line


def test_a_text_that_is_not_toml_is_named_with_its_line(tmp_path: Path) -> None:
    path = job_file(tmp_path, "seed = 1\nseed = 2\n")
    (line,) = problems(path)
    assert line.startswith("job.toml:2: not TOML: Cannot overwrite a value")


def test_a_text_that_ends_too_early_is_named_with_its_last_line(tmp_path: Path) -> None:
    (line,) = problems(job_file(tmp_path, "seed = 1\nlist = [1,"))
    assert line.startswith("job.toml:2: not TOML: ")


def test_mistakes_in_json_are_named_with_their_line(tmp_path: Path) -> None:
    text = '{\n "seed": 1,\n "data": {\n  "name": "digits",\n  "batch": 0},\n'
    text += ' "model": {"kind": "mlp", "hidden": [1,\n 0]},\n "train": {"steps": 1},\n'
    text += ' "optim": {"name": "sgd",\n "lr": -1}}'
    assert problems(job_file(tmp_path, text, "job.json")) == (
        "job.json:5: data.batch: expected 1 or more (got 0)",
        "job.json:7: model.hidden.1: expected 1 or more (got 0)",
        "job.json:10: optim.lr: expected more than 0 (got -1)",
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "job.json:1: not JSON: "),
        ("[]", "job.json:1: a job is a JSON object (got a list)"),
        ('{"a": 1, "a": 2}', 'job.json: the key "a" stands twice in one table'),
    ],
)
def test_a_text_that_is_no_json_object_is_refused(
    tmp_path: Path, text: str, sentence: str
) -> None:
    (line,) = problems(job_file(tmp_path, text, "job.json"))
    assert line.startswith(sentence)


def test_a_job_that_is_not_there_is_named_with_a_near_one(tmp_path: Path) -> None:
    job_file(tmp_path, name="digits.toml")
    assert problems(tmp_path / "digit.toml") == (
        'digit.toml: there is no such job file; did you mean "digits.toml"?',
    )


def test_a_shipped_job_is_named_without_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert problems(Path("digit")) == (
        'digit: there is no such job file; did you mean "digits"?',
    )
    (line,) = problems(Path("zzzzzzzzzzzz"))
    assert "; there are classes, digits, digits-conv, digits-diloco, " in line


def test_a_table_that_an_override_made_is_blamed_on_it(tmp_path: Path) -> None:
    assert problems(job_file(tmp_path), "trian.steps=3") == (
        'override "trian.steps=3": trian: unknown key; did you mean "train"? (got {"steps": 3})',
    )


def test_a_key_of_another_table_is_found_there(tmp_path: Path) -> None:
    assert problems(job_file(tmp_path), "steps=3") == (
        'override "steps=3": steps: unknown key; did you mean "train.steps"? (got 3)',
    )
    assert problems(job_file(tmp_path), "train.grains=3") == (
        'override "train.grains=3": train.grains: unknown key; did you mean '
        '"parallel.grains"? (got 3)',
    )


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_bytes(b"\xff\xfe")
    (line,) = problems(path)
    assert line.startswith("job.toml: not a text in UTF-8")


def test_a_folder_is_no_job(tmp_path: Path) -> None:
    (line,) = problems(tmp_path)
    assert line.endswith("cannot be read: Is a directory")


def test_nesterov_needs_momentum(tmp_path: Path) -> None:
    text = GOOD.replace('name = "adamw"', 'name = "sgd"\nnesterov = true')
    (line,) = problems(job_file(tmp_path, text))
    assert line == (
        "job.toml:14: optim.nesterov: needs momentum above 0 and dampening 0 (got 0, 0)"
    )


def test_entries_of_a_list_of_tables_are_named_with_their_own_line(
    tmp_path: Path,
) -> None:
    entry = "[[parallel.override]]\nmatch = '*'\ncomm_fusion = 0\n"
    text = GOOD + entry + entry.replace("= 0", "= -1") + "[[parallel.override]]\n"
    assert problems(job_file(tmp_path, text)) == (
        "job.toml:33: parallel.override.1.comm_fusion: expected 0 or more (got -1)",
        "job.toml:34: parallel.override.2.match: missing; names of the parameters it is for, as in `0.*` or `*.bias`.",
    )


def test_an_override_may_reach_into_a_list_of_tables(tmp_path: Path) -> None:
    text = GOOD + "[[parallel.override]]\nmatch = '*'\ncomm_fusion = 0\n"
    assert problems(job_file(tmp_path, text), "parallel.override.0.comm_fusion=-1") == (
        'override "parallel.override.0.comm_fusion=-1": parallel.override.0.comm_fusion: expected 0 or more (got -1)',
    )


def test_a_job_that_is_like_no_other_is_answered_with_all_there_are(
    tmp_path: Path,
) -> None:
    job_file(tmp_path, name="one.toml")
    job_file(tmp_path, name="two.json")
    (line,) = problems(tmp_path / "zzzzzzzzzzzz.toml")
    assert line.startswith("zzzzzzzzzzzz.toml: there is no such job file; there are ")
    assert "one.toml" in line
    assert "two.json" in line


def test_a_huge_batch_is_answered_at_once(tmp_path: Path) -> None:
    (line,) = problems(job_file(tmp_path), "data.batch=999999999")
    assert line.endswith(
        "data.batch: 999999999 samples cannot be cut into 4 equal grains (parallel.grains); the nearest batches are 999999996 or 1000000000, the nearest grains 3 or 9"
    )
    (line,) = problems(job_file(tmp_path), "data.batch=99999999999999999999999")
    assert "data.batch: expected 1000000000 or less" in line


def test_the_name_of_a_run_is_no_way_out_of_its_folder(tmp_path: Path) -> None:
    for name in ("../../home", "/tmp/x", ".."):
        (line,) = problems(job_file(tmp_path), f"run.name={name}")
        assert (
            f"a name, not a path: no / in it and no . in front (got '{name}')" in line
        )
