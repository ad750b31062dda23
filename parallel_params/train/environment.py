"""What a run ran on: versions, BLAS kernels, MPI, hosts. Goes into `env.json`.

Looks at the machine and at installed packages, never at environment variables.
"""

import os
import platform
import socket
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_info

from parallel_params.comm.protocol import Communicator

_CHECKOUT = Path(__file__).parents[2]


def package_version() -> str:
    """Give the version of this package."""
    return metadata.version("parallel-params")


def describe_environment(comm: Communicator) -> dict[str, object]:
    """Collect what may decide a run's numbers and speed, as plain JSON values.

    Collective: every rank; each adds its host name.
    """
    hosts = [name.decode() for name in comm.all_gather_bytes(_host().encode())]
    return {
        "parallel_params": package_version(),
        "git_commit": git_commit(_CHECKOUT),
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "numpy": np.__version__,
        "blas": blas_libraries(),
        "num_cores": os.cpu_count(),
        "communicator": comm.description,
        "num_ranks": comm.size,
        "num_nodes": len(set(hosts)),
        "hosts": hosts,
    }


def blas_libraries() -> list[dict[str, object]]:
    """List the loaded BLAS libraries: version, kernels, threads."""
    return [
        {
            "library": pool["internal_api"],
            "version": pool["version"],
            "kernels": pool.get("architecture"),
            "num_threads": pool["num_threads"],
        }
        for pool in threadpool_info()
        if pool["user_api"] == "blas"
    ]


def git_commit(checkout: Path) -> str | None:
    """Read the commit of a checkout from its files; None if it is none.

    No git is started: a process under MPI had better not fork.
    """
    try:
        head = (checkout / ".git" / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref: "):
            return head
        name = head.removeprefix("ref: ")
        loose = checkout / ".git" / name
        if loose.is_file():
            return loose.read_text(encoding="utf-8").strip()
        packed = (checkout / ".git" / "packed-refs").read_text(encoding="utf-8")
    except OSError:
        return None
    lines = (line.split() for line in packed.splitlines())
    return next((words[0] for words in lines if words[1:] == [name]), None)


def _host() -> str:
    return socket.gethostname()
