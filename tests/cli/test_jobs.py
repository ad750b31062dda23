"""The verbs that list jobs and say what simple methods reach on their data."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from parallel_params.cli.app import app
from parallel_params.train.config.shipped import shipped_jobs


def said(*words: str) -> str:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_every_shipped_job_is_listed_with_its_title() -> None:
    lines = said("jobs").splitlines()
    names = [line.split()[0] for line in lines[: lines.index("")]]
    assert names == sorted(shipped_jobs())
    assert "digits         handwritten digits, two hidden layers" in lines


def test_a_wrong_name_of_a_job_is_answered_by_its_near_one_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in (tmp_path, Path(__file__).parents[2]):
        monkeypatch.chdir(place)
        result = CliRunner().invoke(app, ["baseline", "wiine"])
        assert 'did you mean "wine"?' in str(result.exception)


def test_baselines_are_said_in_words_and_as_json() -> None:
    text = said("baseline", "wine")
    assert text.startswith("wine: test R2, share of the variance explained; more is")
    found = json.loads(said("baseline", "wine", "--json"))
    assert (found["metric"], found["num_test"]) == ("r2", 36)
    assert f"least squares  {found['baselines']['least squares']:.4f}" in text


def test_data_too_large_for_simple_methods_are_said_to_be_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = "parallel_params.train.tasks.regression.Regression.baselines"
    monkeypatch.setattr(place, lambda _: [])
    assert said("baseline", "wine").endswith("too many samples for simple methods\n")
