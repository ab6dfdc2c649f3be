"""Checks of how a job was launched: tasks, ranks and the end of its time."""

import math

from hpcslmc import environment
from hpcslmc.job.schema import Job
from hpcslmc.parallel.world import World


def ends_at(job: Job, started: float) -> tuple[float, str]:
    """Return when the job has to be over, in seconds since the epoch, and a remark on it.

    The end is that by its own wall time or by Slurm's; the remark tells if Slurm's makes no sense.
    """
    own = started + job.output.wall_time_s if job.output.wall_time_s is not None else math.inf
    slurm, remark = environment.slurm_end(started)
    return min(own, slurm or math.inf), remark


def several_alone(world: World) -> str:
    """Return why tasks that are no ranks of one MPI cannot run a job, nothing if they are.

    Each would be the whole job, all in one output directory.
    """
    launched = environment.launched()
    if world.size > 1 or launched is None or launched.tasks < 2:
        return ""
    return (
        f"a launcher started {launched.tasks} tasks ({launched.variable} = {launched.tasks}), and "
        f"{world.library} sees one rank in each: the launcher "
        "belongs to another MPI than the program's. Launch with the mpirun of that library, or "
        "srun with the --mpi that it was built for; start one "
        "rank alone by a launcher of one task."
    )


def is_first_task() -> bool:
    """Tell whether this is the first task of the launcher's, which speaks for all."""
    launched = environment.launched()
    return launched is None or launched.task == 0


def unused_tasks(world: World) -> str:
    """Return a remark if a Slurm job of several tasks runs one rank that nothing launched.

    Such a rank is a script's python without srun, for example.
    """
    tasks = environment.allocated_tasks()
    if world.size > 1 or tasks < 2 or environment.launched():
        return ""
    return (
        f"one rank runs, and the Slurm job has {tasks} tasks ({environment.ALLOCATED}): srun or "
        "mpirun would start a rank in each"
    )
