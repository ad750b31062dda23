"""`python -m parallel_params script.py`: what comes before the script."""

import sys
from pathlib import Path

import pytest

from parallel_params.__main__ import main


def test_a_script_that_is_not_there_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["parallel_params", "absent.py"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("pparams: there is no script 'absent.py'")
    assert said.count("\n") == 1


def test_a_script_runs_with_its_own_arguments(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text("import sys\nprint(__name__, *sys.argv[1:])\n")
    monkeypatch.setattr(sys, "argv", ["parallel_params", str(script), "a", "-n"])
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    main()
    assert capsys.readouterr().out == "__main__ a -n\n"
