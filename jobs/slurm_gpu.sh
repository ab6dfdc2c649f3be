#!/bin/bash
# One MPI rank per GPU:    sbatch jobs/slurm_gpu.sh job.toml
# Before the time limit or on preemption the job writes a checkpoint and queues itself again, until it is finished.
#SBATCH --job-name=hpcslmc
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=4
#SBATCH --time=12:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log

# module load openmpi hdf5 cuda     # whatever the environment was built against
venv=${HPCSLMC_VENV:-.venv}
source "$venv/bin/activate" || { echo "$0: there is no environment in $venv: submit from the project's folder, or set HPCSLMC_VENV" >&2; exit 2; }
export OMP_NUM_THREADS=1

# "srun --mpi=pmix" where Slurm and MPI have PMIx in common: preemption then tells every rank. With mpirun it does where the cluster sets
# preempt_send_user_signal; elsewhere what was done since the last checkpoint is done again.
launch=${HPCSLMC_LAUNCH:-mpirun}

$launch python -m hpcslmc.run "$@" &
run=$!
trap 'kill -USR1 $run' USR1 TERM   # before the time limit, on preemption; handed on to every rank
wait $run
code=$?
while kill -0 $run 2>/dev/null; do # the signal ended the wait, not the run
    wait $run
    code=$?
done
case $code in
75 | 138 | 143)                    # checkpointed, or a signal came before the program could take it: run me again, unless cancelled
    [ -z "$SLURM_JOB_ID" ] || scontrol show job "$SLURM_JOB_ID" | grep -qE "JobState=(CANCELLED|COMPLETING)" || scontrol requeue "$SLURM_JOB_ID" ;;
esac
exit $code
