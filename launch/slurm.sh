#!/bin/sh
# Trains a job under Slurm: sbatch launch/slurm.sh JOB [key=value ...] [train options]
# A site changes these three lines; then the module of its MPI and Python below.
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --time=01:00:00
#SBATCH --job-name=pparams
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
set -eu

# module load mpich python
# . /path/to/venv/bin/activate          # pip install parallel-params, no extra: the site's MPI

job=${1:?usage: sbatch launch/slurm.sh JOB [key=value ...]}
shift

# The ranks bind to cores, so each gets as many BLAS threads as it has cores.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}"

# srun's own default may tell the ranks nothing about each other, and each would be alone.
# MPICH and Intel MPI speak pmi2, Open MPI speaks pmix.
export PPARAMS_LAUNCHER="${PPARAMS_LAUNCHER:-srun --mpi=pmi2}"

exec "${PYTHON:-python3}" -m parallel_params train -n "$SLURM_NTASKS" "$job" "$@"
