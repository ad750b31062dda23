"""Real worlds from the command line: trained, refused, interrupted."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

# Each starts a launcher and two Pythons, which takes a second.
pytestmark = pytest.mark.slow

JOB = """
[data]
name = "digits"
batch = 32
[model]
kind = "mlp"
hidden = []
[optim]
name = "sgd"
lr = 0.1
[parallel]
grains = 2
[train]
steps = 20
[log]
every = 10
"""
TIMEOUT_S = 60


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "job.toml").write_text(JOB)
    return tmp_path


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "parallel_params", *words]


def outside_of_worlds() -> dict[str, str]:
    """Give an environment in which nobody has started this process as a rank."""
    ours = ("PMI", "OMPI_", "MPI_LOCAL", "SLURM_", "PPARAMS_", "HYDI_", "PRTE_")
    return {k: v for k, v in os.environ.items() if not k.startswith(ours)}


def run(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(*words),
        cwd=folder,
        env=outside_of_worlds(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def test_a_world_trains_the_same_weights_as_one_rank(folder: Path) -> None:
    answers = [
        run(folder, "train", "job.toml", "--json", "-n", n, f"run.folder=run{n}")
        for n in ("1", "2")
    ]

    assert [answer.returncode for answer in answers] == [0, 0], answers[1].stderr
    alone, together = (json.loads(answer.stdout) for answer in answers)
    assert (alone["num_ranks"], together["num_ranks"]) == (1, 2)
    assert alone["weights_hash"] == together["weights_hash"]


def test_a_run_folder_that_exists_is_told_before_a_world_starts(folder: Path) -> None:
    (folder / "there").mkdir()

    answer = run(folder, "train", "job.toml", "-n", "2", "run.folder=there")

    assert answer.returncode == 2
    assert "run folder there is there already" in answer.stderr
    assert "[rank" not in answer.stderr


def test_an_error_that_all_ranks_share_is_told_once(folder: Path) -> None:
    data = 'data={name="npz", path="none.npz", batch=96}'

    answer = run(folder, "train", "job.toml", "-n", "2", data)

    assert answer.returncode == 2
    assert answer.stderr.count("none.npz") == 1
    assert "Traceback" not in answer.stderr


def test_mpiexec_and_worker_agree_on_the_size_of_the_world(folder: Path) -> None:
    answer = run(folder, "mpiexec", "-n", "2", *command("train", "job.toml", "-n", "3"))

    assert answer.returncode == 2
    assert answer.stderr.count("-n 3 was asked for inside a world of 2 ranks") == 1


def test_ctrl_c_ends_all_ranks(folder: Path) -> None:
    words = ("train", "job.toml", "-n", "2", "train.steps=1000000")
    with subprocess.Popen(
        command(*words),
        cwd=folder,
        env=outside_of_worlds(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as launcher:
        assert launcher.stdout is not None
        for line in launcher.stdout:
            if line.startswith("  step"):
                break
        launcher.send_signal(signal.SIGINT)
        # Ends when the last rank has let go of it.
        launcher.stdout.read()
        code = launcher.wait(timeout=TIMEOUT_S)

    assert code == 130


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_world_that_is_asked_to_stop_saves_and_goes_on_elsewhere(
    folder: Path, number: signal.Signals
) -> None:
    words = ("train", "job.toml", "-n", "2", "train.steps=1000000")
    with subprocess.Popen(
        command(*words),
        cwd=folder,
        env=outside_of_worlds(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as launcher:
        assert launcher.stdout is not None
        assert launcher.stderr is not None
        for line in launcher.stdout:
            if line.startswith("  step"):
                break
        launcher.send_signal(number)
        launcher.stdout.read()
        said = launcher.stderr.read()
        code = launcher.wait(timeout=TIMEOUT_S)

    assert code == 75, said
    saved = re.search(r"step (\d+) is saved in (\S+)\.", said)
    assert saved, said
    steps = f"train.steps={int(saved[1]) + 3}"
    known = set(folder.glob("runs/job/*"))
    answers = [
        run(folder, "train", "job.toml", "--json", "--resume", where, "-n", n, steps)
        for where, n in ((saved[2], "1"), (str(known.pop()), "2"))
    ]
    assert [answer.returncode for answer in answers] == [0, 0], answers[0].stderr
    alone, together = (json.loads(answer.stdout) for answer in answers)
    assert alone["weights_hash"] == together["weights_hash"]
    assert alone["num_steps"] == int(saved[1]) + 3


def test_a_script_that_fails_on_one_rank_ends_all(folder: Path) -> None:
    (folder / "script.py").write_text(
        "import sys\n"
        "from parallel_params.comm.world import init\n"
        "comm = init()\n"
        "if comm.rank == 1:\n"
        "    raise SystemExit(7)\n"
        "comm.barrier()\n"
    )

    answer = run(folder, "mpiexec", "-n", "2", *command("script.py", "an argument"))

    assert answer.returncode == 7
    assert "Rank 1 of 2 failed first" in answer.stderr


def test_doctor_tries_a_real_world(folder: Path) -> None:
    answer = run(folder, "doctor", "--json")

    checks = json.loads(answer.stdout)
    assert answer.returncode == 0, checks
    assert any(check["text"].startswith("world of 2: all_reduce") for check in checks)


def odd_rank(folder: Path, odd: str) -> list[str]:
    """Return a command whose rank 1 trains with other words than rank 0."""
    (folder / "odd.py").write_text(
        "import os, sys\n"
        "from parallel_params.cli.app import main\n"
        "names = ('PMI_RANK', 'OMPI_COMM_WORLD_RANK')\n"
        "rank = next(os.environ[n] for n in names if n in os.environ)\n"
        f"odd = {odd!r}.split()\n"
        "sys.argv[1:] = odd if rank == '1' else ['train', 'job.toml']\n"
        "main()\n"
    )
    return [sys.executable, "odd.py"]


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        ("train missing.toml", "missing.toml: there is no such job file"),
        ("train job.toml optim.lrr=1", "optim.lrr: unknown key"),
        ("train npz.toml", "absent.npz"),
        ("train job.toml seed=5", "the job is not the same on all ranks"),
    ],
)
def test_a_job_that_one_rank_cannot_read_ends_all_with_one_sentence(
    folder: Path, odd: str, words: str
) -> None:
    npz = JOB.replace('"digits"', '"npz"\npath = "absent.npz"')
    (folder / "npz.toml").write_text(npz)

    answer = run(folder, "mpiexec", "-n", "2", *odd_rank(folder, odd))

    assert answer.stderr.count(words) == 1, answer.stderr
    assert "Traceback" not in answer.stderr
    assert answer.returncode in (1, 2)


def test_a_closed_standard_output_is_no_crash(folder: Path) -> None:
    line = " ".join(command("train", "job.toml", "train.steps=2", ">&-"))
    answer = subprocess.run(
        ["sh", "-c", line],
        cwd=folder,
        env=outside_of_worlds(),
        stderr=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (answer.returncode, answer.stderr) == (0, "")


def test_a_killed_pparams_leaves_no_world_behind(folder: Path) -> None:
    words = ("train", "job.toml", "-n", "2", "train.steps=1000000")
    with subprocess.Popen(
        command(*words),
        cwd=folder,
        env=outside_of_worlds(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as pparams:
        assert pparams.stdout is not None
        for line in pparams.stdout:
            if line.startswith("  step"):
                break
        pparams.kill()
        # Ends when the last rank has let go of it; a world that lives on does not.
        pparams.stdout.read()
