#!/bin/sh
# Runs a command in an MPI world of this checkout's environment:
#   sh launch/mpirun.sh -n 3 python -m pytest --only-mpi
# The arguments are mpiexec's own; `python` is the environment's. `pparams mpiexec` adds the
# variables that a local world wants: BLAS threads, Open MPI's guards.
set -eu
root=$(cd -- "$(dirname -- "$0")/.." && pwd)
need="test"
# shellcheck source=launch/env.sh
. "$root/launch/env.sh"

PATH=$venv/bin:$PATH exec "$python" -m parallel_params mpiexec "$@"
