#!/bin/sh
# Trains a job under PBS: qsub -v JOB=my.toml launch/pbs.sh
# A site changes these three lines; then the module of its MPI and Python below.
#PBS -l select=1:ncpus=4:mpiprocs=4
#PBS -l walltime=01:00:00
#PBS -N pparams
#PBS -j oe
set -eu

# module load mpich python
# . /path/to/venv/bin/activate          # pip install parallel-params, no extra: the site's MPI

cd "$PBS_O_WORKDIR"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# One line per rank; mpiexec reads the same file, so it knows the nodes too.
ranks=$(grep -c . "$PBS_NODEFILE")

# shellcheck disable=SC2086  # ARGS is several words: -v JOB=my.toml,ARGS='seed=3 -q'
exec "${PYTHON:-python3}" -m parallel_params train -n "$ranks" "${JOB:-digits}" ${ARGS:-}
