#!/bin/sh
# Trains a job on several machines over ssh, without a batch system:
#   sh launch/hosts.sh HOSTFILE RANKS JOB [key=value ...] [train options]
# The machines see this folder and this Python under the same paths, and ssh asks nothing.
# HOSTFILE has one name per line. MPICH; for Open MPI: -f is --hostfile, -ppn N is
# --map-by ppr:N:node.
set -eu
usage="usage: sh launch/hosts.sh HOSTFILE RANKS JOB [key=value ...]"
hosts=${1:?$usage}
ranks=${2:?$usage}
job=${3:?$usage}
shift 3

export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec "${PYTHON:-python3}" -m parallel_params train -n "$ranks" "$job" "$@" \
    --launcher "mpiexec -f $hosts${PPN:+ -ppn $PPN}"
