"""The MPI library this Python would load, asked before any world exists.

Loading the library starts nothing: the launching process may do it too.
"""

from parallel_params.comm.launch_env import check_wheels
from parallel_params.comm.world import installed_mpi_wheels
from parallel_params.errors import LaunchError


def mpi_library() -> tuple[str, str]:
    """Return the name and version of the MPI library.

    Raises:
        LaunchError: there is none, or two wheels have overwritten each other.
    """
    check_wheels(installed_mpi_wheels())
    try:
        from parallel_params.comm import mpi
    except ModuleNotFoundError:
        raise  # mpi4py itself is a dependency: pip's business, not a missing library
    except (ImportError, RuntimeError) as error:
        raise LaunchError(
            "No MPI library found. Either pip install 'parallel-params[mpich]' or load "
            "your site's MPI module."
        ) from error
    library = mpi.library()
    return library.name, library.version
