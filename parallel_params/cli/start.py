"""How a world of ranks will be started: which launcher, which command, which variables.

A `Start` is a value that can be printed; nothing is started here but `--version` of the
launcher. Running it is `cli/children.py`.
"""

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from parallel_params.comm.launch_env import (
    Family,
    find_mpiexec,
    library_family,
    local_world_environment,
    mpiexec_family,
)
from parallel_params.errors import LaunchError

LAUNCHER_VARIABLE = "PPARAMS_LAUNCHER"

_NAMES = {"mpich": "MPICH", "openmpi": "Open MPI"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A command that starts a world.

    Attributes:
        command: the launcher with its options, then the program of a rank.
        variables: what is added to the environment.
        family: whose launcher it is.
        found: where the launcher was found, in words.
    """

    command: tuple[str, ...]
    variables: Mapping[str, str]
    family: Family
    found: str

    def describe(self) -> str:
        """Write the command as a shell takes it, one variable a line before it."""
        items = self.variables.items()
        lines = [f"{name}={shlex.quote(value)}" for name, value in items]
        return " \\\n".join([*lines, shlex.join(self.command)])


def make_start(
    program: Sequence[str],
    *,
    num_ranks: int,
    library: str,
    launcher: str | None,
    executable: str,
    environ: Mapping[str, str],
) -> Start:
    """Find the launcher of a world and check that it fits the MPI library.

    Args:
        program: what each rank runs.
        num_ranks: ranks of the world.
        library: the name of the MPI library that the ranks will load.
        launcher: the user's own launcher with its options; None to look for one.
        executable: the Python whose environment is meant.
        environ: the environment.

    Raises:
        LaunchError: there is no launcher, or it belongs to another MPI.
    """
    words, found = _find_launcher(launcher, executable=executable, environ=environ)
    family = mpiexec_family(Path(words[0]))
    _check_family(family, words[0], library=library)
    variables: dict[str, str] = {}
    if is_local(environ) and not found.startswith("--") and family != "slurm":
        variables = local_world_environment(
            family,
            num_ranks=num_ranks,
            num_cores=num_cores(),
            is_root=os.geteuid() == 0,
            environ=environ,
        )
    if family == "slurm" and len(words) == 1:
        words = [*words, *_slurm_options(words[0], library=library)]
    command = (*words, "-n", str(num_ranks), *program)
    return Start(command=command, variables=variables, family=family, found=found)


def num_cores() -> int:
    """Count the cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def is_local(environ: Mapping[str, str]) -> bool:
    """Whether a launcher finds this machine alone, no nodes of a batch system."""
    for name in ("SLURM_JOB_NUM_NODES", "SLURM_NNODES"):
        if environ.get(name, "1") != "1":
            return False
    # LSF: "host1 4 host2 4"
    if len(environ.get("LSB_MCPU_HOSTS", "").split()) > 2:
        return False
    nodes = environ.get("PBS_NODEFILE")
    if nodes is None or not Path(nodes).is_file():
        return True
    return len(set(Path(nodes).read_text(encoding="utf-8").split())) <= 1


def _find_launcher(
    launcher: str | None, *, executable: str, environ: Mapping[str, str]
) -> tuple[list[str], str]:
    given = launcher or environ.get(LAUNCHER_VARIABLE)
    if given:
        source = "--launcher" if launcher else f"--launcher, by {LAUNCHER_VARIABLE}"
        words = shlex.split(given)
        found = shutil.which(words[0], path=environ.get("PATH")) if words else None
        if found is None:
            raise LaunchError(
                f"There is no launcher {given!r} ({source}); name a program that is on "
                f"PATH or leave it out."
            )
        return [found, *words[1:]], source
    # Before srun, because the wheels' mpiexec reads the allocation by itself.
    beside = find_mpiexec(executable, {})
    if beside is not None:
        return [str(beside)], "beside python"
    srun = shutil.which("srun", path=environ.get("PATH"))
    if "SLURM_JOB_ID" in environ and srun is not None:
        return [srun], "inside a Slurm job"
    on_path = find_mpiexec(executable, environ)
    if on_path is not None:
        return [str(on_path)], "on PATH"
    raise LaunchError(
        "There is an MPI library and no mpiexec or mpirun, neither beside python nor "
        "on PATH. Load your site's MPI module, pip install 'parallel-params[mpich]', "
        "or name one with --launcher."
    )


def _check_family(family: Family, launcher: str, *, library: str) -> None:
    own = library_family(library)
    if {family, own} == {"mpich", "openmpi"}:
        raise LaunchError(
            f"The launcher {launcher} is {_NAMES[family]}'s, but the MPI library is "
            f"{library}: each rank would train alone, or die. Use the mpiexec that "
            f"belongs to the library (of the wheels: the one beside python), or name "
            f"it with --launcher."
        )


def _slurm_options(srun: str, *, library: str) -> list[str]:
    """Choose how srun tells the ranks about each other; its own default is silence."""
    wanted = "pmix" if library_family(library) == "openmpi" else "pmi2"
    answer = subprocess.run(
        [srun, "--mpi=list"],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    known = (answer.stdout + answer.stderr).split()
    return [f"--mpi={wanted}"] if wanted in known else []
