#!/bin/sh
# Trains a job once per seed: sbatch --array=0-9 launch/slurm_array.sh JOB [key=value ...]
# A site changes these three lines; then the module of its MPI and Python below.
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --time=01:00:00
#SBATCH --job-name=pparams-seeds
#SBATCH --output=%x-%A-%a.log
set -eu

# module load mpich python
# . /path/to/venv/bin/activate          # pip install parallel-params, no extra: the site's MPI

job=${1:?usage: sbatch --array=0-9 launch/slurm_array.sh JOB [key=value ...]}
shift
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}"
export PPARAMS_LAUNCHER="${PPARAMS_LAUNCHER:-srun --mpi=pmi2}"

# Runs that start in the same second must not share a folder by accident.
exec "${PYTHON:-python3}" -m parallel_params train -n "$SLURM_NTASKS" "$job" "$@" \
    "seed=$SLURM_ARRAY_TASK_ID" \
    "run.folder=runs/array-$SLURM_ARRAY_JOB_ID/seed-$SLURM_ARRAY_TASK_ID"
