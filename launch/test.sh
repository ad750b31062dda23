#!/bin/sh
# Runs the tests, MPI worlds of 1, 2, 3 and 4 ranks included: sh launch/test.sh [pytest args]
#   sh launch/test.sh -k plan               some of them
#   PPARAMS_MPI=openmpi sh launch/test.sh   all of them under the other MPI
# Sets everything up first (env.sh), which takes seconds and happens once.
set -eu
root=$(cd -- "$(dirname -- "$0")/.." && pwd)
need="test"
# shellcheck source=launch/env.sh
. "$root/launch/env.sh"

cd "$root"
exec "$python" -m pytest "$@"
