#!/bin/sh
# Trains a job under LSF: JOB=my.toml bsub < launch/lsf.sh
# A site changes these three lines; then the module of its MPI and Python below.
#BSUB -n 4
#BSUB -W 1:00
#BSUB -J pparams
#BSUB -o %J.log
set -eu

# module load mpich python
# . /path/to/venv/bin/activate          # pip install parallel-params, no extra: the site's MPI

export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

# mpiexec reads the nodes of the job by itself.
# shellcheck disable=SC2086  # ARGS is several words: ARGS='seed=3 -q' JOB=my.toml bsub < ...
exec "${PYTHON:-python3}" -m parallel_params train -n "$LSB_DJOB_NUMPROC" \
    "${JOB:-digits}" ${ARGS:-}
