"""Which launcher, command and variables a world is started with."""

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from parallel_params.cli.start import Start, is_local, make_start, num_cores
from parallel_params.errors import LaunchError

OPEN_MPI = "echo 'mpiexec (Open MPI) 5.0.11'"
HYDRA = "echo 'HYDRA build details:'"
SRUN = (
    'test "$1" = --mpi=list && echo "MPI plugin types are... none pmi2" || echo slurm 1'
)
MakeProgram = Callable[[str, str], Path]


@pytest.fixture
def make_program(tmp_path: Path) -> MakeProgram:
    """Write an executable `folder/name` that runs a line of shell."""

    def make(name: str, line: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)
        return path

    return make


def start(
    tmp_path: Path,
    *,
    environ: dict[str, str] | None = None,
    launcher: str | None = None,
    library: str = "MPICH",
    num_ranks: int = 2,
) -> Start:
    return make_start(
        ["python", "job.py"],
        num_ranks=num_ranks,
        library=library,
        launcher=launcher,
        executable=str(tmp_path / "env" / "python"),
        environ={"PATH": f"{tmp_path / 'path'}:/usr/bin:/bin", **(environ or {})},
    )


def test_mpiexec_beside_python_comes_before_slurm_and_path(
    tmp_path: Path, make_program: MakeProgram
) -> None:
    beside = make_program("env/mpiexec", HYDRA)
    make_program("path/mpiexec", HYDRA)
    make_program("path/srun", SRUN)

    made = start(tmp_path, environ={"SLURM_JOB_ID": "1"})

    assert made.command == (str(beside), "-n", "2", "python", "job.py")
    assert made.family == "mpich"


def test_srun_starts_a_site_mpi_inside_a_slurm_job(
    tmp_path: Path, make_program: MakeProgram
) -> None:
    srun = make_program("path/srun", SRUN)
    make_program("path/mpiexec", HYDRA)

    made = start(tmp_path, environ={"SLURM_JOB_ID": "1"})

    assert made.command[:4] == (str(srun), "--mpi=pmi2", "-n", "2")
    assert not made.variables


def test_mpiexec_on_path_is_the_last_resort(
    tmp_path: Path, make_program: MakeProgram
) -> None:
    on_path = make_program("path/mpiexec", HYDRA)
    make_program("path/srun", SRUN)

    assert start(tmp_path).command[0] == str(on_path)


@pytest.mark.parametrize("by_variable", [False, True])
def test_a_launcher_of_the_users_own_comes_first_and_keeps_its_options(
    tmp_path: Path, make_program: MakeProgram, by_variable: bool
) -> None:
    own = make_program("path/mylauncher", HYDRA)
    make_program("env/mpiexec", HYDRA)
    words = "mylauncher --map-by 'numa node'"

    made = (
        start(tmp_path, environ={"PPARAMS_LAUNCHER": words})
        if by_variable
        else start(tmp_path, launcher=words)
    )

    assert made.command[:5] == (str(own), "--map-by", "numa node", "-n", "2")
    assert not made.variables


def test_a_launcher_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="no launcher 'mpirum -x'"):
        start(tmp_path, launcher="mpirum -x")


def test_no_launcher_at_all_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="pip install 'parallel-params"):
        make_start(
            ["true"],
            num_ranks=2,
            library="MPICH",
            launcher=None,
            executable=str(tmp_path / "python"),
            environ={"PATH": str(tmp_path)},
        )


@pytest.mark.parametrize(
    ("line", "library", "words"),
    [(OPEN_MPI, "MPICH", "Open MPI's"), (HYDRA, "Open MPI", "MPICH's")],
)
def test_a_launcher_of_another_mpi_is_refused_before_launch(
    tmp_path: Path, make_program: MakeProgram, line: str, library: str, words: str
) -> None:
    make_program("env/mpiexec", line)

    with pytest.raises(LaunchError, match=f"is {words}.*library is {library}"):
        start(tmp_path, library=library)


def test_a_local_world_gets_variables_but_keeps_the_users(
    tmp_path: Path, make_program: MakeProgram
) -> None:
    make_program("env/mpiexec", OPEN_MPI)

    made = start(
        tmp_path,
        library="Open MPI",
        num_ranks=num_cores() + 1,
        environ={"OMPI_MCA_btl": "mine"},
    )

    assert "OMPI_MCA_btl" not in made.variables
    assert made.variables["OMPI_MCA_osc"] == "^ucx"
    assert made.variables["OMP_NUM_THREADS"] == "1"
    assert made.variables["PRTE_MCA_rmaps_default_mapping_policy"] == ":oversubscribe"


def test_nodes_of_a_batch_system_are_left_alone(
    tmp_path: Path, make_program: MakeProgram
) -> None:
    make_program("env/mpiexec", OPEN_MPI)

    made = start(tmp_path, library="Open MPI", environ={"SLURM_NNODES": "2"})

    assert not made.variables


def test_the_batch_systems_are_understood(tmp_path: Path) -> None:
    nodes = tmp_path / "nodes"
    nodes.write_text("a\na\n")
    assert is_local({"PBS_NODEFILE": str(nodes)})
    nodes.write_text("a\nb\n")
    assert not is_local({"PBS_NODEFILE": str(nodes)})
    assert is_local({"LSB_MCPU_HOSTS": "a 4"})
    assert not is_local({"LSB_MCPU_HOSTS": "a 4 b 4"})
    assert is_local({"SLURM_JOB_NUM_NODES": "1"})
    assert not is_local({"SLURM_JOB_NUM_NODES": "3"})
    assert is_local({})


def test_a_start_is_printed_as_a_shell_takes_it() -> None:
    made = Start(
        command=("mpiexec", "-n", "2", "a b"),
        variables={"X": "1 2"},
        family="mpich",
        found="beside python",
    )

    text = made.describe()

    assert shlex.split(text.replace("\\\n", "")) == ["X=1 2", *made.command]
