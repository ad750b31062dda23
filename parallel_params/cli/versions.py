"""The versions that decide what a run computes and how its ranks talk."""

import platform
import sys
from collections.abc import Mapping
from importlib import metadata

from parallel_params.cli.library import mpi_library
from parallel_params.comm.launch_env import find_mpiexec
from parallel_params.errors import LaunchError
from parallel_params.train.environment import package_version


def describe_versions(*, environ: Mapping[str, str]) -> str:
    """Write package, Python, NumPy with its BLAS, MPI library and launcher."""
    launcher = find_mpiexec(sys.executable, environ)
    try:
        mpi = " ".join(mpi_library())
    except LaunchError as error:
        mpi = f"none ({str(error).partition('. ')[0]})"
    return (
        f"parallel_params {package_version()}\n"
        f"Python {platform.python_version()} ({sys.executable})\n"
        f"NumPy {metadata.version('numpy')} ({describe_blas()})\n"
        f"MPI {mpi}, launcher {launcher or 'none'}"
    )


def describe_blas() -> str:
    """Write which BLAS NumPy has loaded, its kernels and its threads."""
    import numpy as np  # loads the BLAS that is asked for below
    from threadpoolctl import threadpool_info

    del np
    for pool in threadpool_info():
        if pool["user_api"] == "blas":
            threads = pool["num_threads"]
            return (
                f"{pool['internal_api']} {pool['version']}, "
                f"{pool.get('architecture', 'unknown')} kernels, "
                f"{threads} thread{'s' if threads != 1 else ''}"
            )
    return "BLAS unknown"
