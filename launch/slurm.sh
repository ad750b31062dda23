#!/bin/sh
# Trains a job under Slurm: sbatch launch/slurm.sh JOB [key=value ...] [train options]
# Two minutes before its time is up it saves, and stands in the queue again until it is done.
# A site changes these lines; then the module of its MPI and Python below.
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --time=01:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --job-name=pparams
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
set -eu

# module load mpich python
# . /path/to/venv/bin/activate          # pip install parallel-params, no extra: the site's MPI

job=${1:?usage: sbatch launch/slurm.sh JOB [key=value ...]}
shift
# Slurm runs the same script again; then the run goes on from where it was saved.
[ "${SLURM_RESTART_COUNT:-0}" = 0 ] || set -- "$@" --resume auto

# The ranks bind to cores, so each gets as many BLAS threads as it has cores.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}"

# srun's own default may tell the ranks nothing about each other, and each would be alone.
# MPICH and Intel MPI speak pmi2, Open MPI speaks pmix.
export PPARAMS_LAUNCHER="${PPARAMS_LAUNCHER:-srun --mpi=pmi2}"

"${PYTHON:-python3}" -m parallel_params train -n "$SLURM_NTASKS" "$job" "$@" &
run=$!
trap 'kill -USR1 "$run"' USR1
trap 'kill -TERM "$run"' TERM
# A signal ends the waiting, not the run.
code=0
while wait "$run" && code=0 || code=$?; kill -0 "$run" 2>/dev/null; do :; done

# 75: stopped as asked, and saved. Whoever cancels a job does not want it again.
if [ "$code" = 75 ] && [ "$(squeue -h -j "$SLURM_JOB_ID" -o %T)" = RUNNING ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
