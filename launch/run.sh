#!/bin/sh
# Trains a job on 2 ranks: sh launch/run.sh [JOB] [key=value ...] [options of pparams train]
#   sh launch/run.sh                              handwritten digits
#   sh launch/run.sh my.toml -n 4 optim.lr=1e-3   another job, on 4 ranks
# Sets everything up first (env.sh), which takes seconds and happens once.
set -eu
root=$(cd -- "$(dirname -- "$0")/.." && pwd)
# shellcheck source=launch/env.sh
. "$root/launch/env.sh"

case ${1--} in
    -* | *=*) set -- "$root/configs/digits.toml" "$@" ;;
esac
# The last -n counts, so one among the arguments wins over this one.
exec "$python" -m parallel_params train -n 2 "$@"
