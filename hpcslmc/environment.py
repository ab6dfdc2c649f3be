"""Every environment variable that the program reads.

Launchers, users and old shells leave anything in them.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from hpcslmc.errors import UserError
from hpcslmc.storage.files import check_regular

MOST_THREADS = 1024
"""Most threads of a rank; OpenMP ends the program where it cannot start that many."""
TASKS = {
    "OMPI_COMM_WORLD_SIZE": "OMPI_COMM_WORLD_RANK",
    "MV2_COMM_WORLD_SIZE": "MV2_COMM_WORLD_RANK",
    "PMI_SIZE": "PMI_RANK",
    "MPI_LOCALNRANKS": "MPI_LOCALRANKID",
    "SLURM_STEP_NUM_TASKS": "SLURM_PROCID",
}
"""Variables that a launcher sets for each task that it starts, innermost launchers first.

How many tasks there are, and which this is.
"""
ALLOCATED = "SLURM_NTASKS"
"""Tasks of a Slurm job; a script or a shell in it has the variable too, and is none of them."""


@dataclass(frozen=True)
class Launched:
    """A task that a launcher of parallel programs (mpirun, srun) has started.

    Attributes
    ----------
    variable : str
            Environment variable that says so.
    tasks, task : int
        How many there are, and which this is; 0 if that is not said.
    """

    variable: str
    tasks: int
    task: int


def threads() -> int:
    """Return the threads of a rank: the first number of OMP_NUM_THREADS, 1 if unset or empty.

    Raises
    ------
    UserError
    """
    given = os.environ.get("OMP_NUM_THREADS", "").strip()
    first = given.split(",")[0].strip()  # further numbers are for nested parallel regions
    number = _count(first)
    if given and not (number and number <= MOST_THREADS):
        raise UserError(
            f"OMP_NUM_THREADS = {_shown('OMP_NUM_THREADS')}: the threads of a rank are a number "
            f"from 1 to {MOST_THREADS}; set it, "
            "or unset the variable for one thread."
        )
    return number or 1


def inherited() -> dict[str, str]:
    """Return the environment, to be handed on to a process that is started."""
    return dict(os.environ)


def lock_no_files() -> None:
    """Let HDF5 lock no file: it prefers the variable to what a call asks for."""
    os.environ["HDF5_USE_FILE_LOCKING"] = "FALSE"


def slurm_job() -> str | None:
    """Return the number of the Slurm job, None outside of one."""
    job = os.environ.get("SLURM_JOB_ID", "")
    return job if _count(job) is not None else None


def slurm_restarts() -> int:
    """Count how often Slurm has started this job again."""
    return _count(os.environ.get("SLURM_RESTART_COUNT", "")) or 0


def slurm_end(now: float) -> tuple[float | None, str]:
    """Return when Slurm ends the job, in seconds since the epoch; None where that is not known.

    With it a remark, if what Slurm says makes no sense.
    """
    given = os.environ.get("SLURM_JOB_END_TIME", "")
    end = _count(given)
    if end is not None and end > now:
        return float(end), ""
    why = "is no time in seconds since 1970" if not end else f"was over {now - end:.0f} s ago"
    return (
        None,
        f"SLURM_JOB_END_TIME = {_shown('SLURM_JOB_END_TIME')} {why}, and is ignored"
        if given
        else "",
    )


def launched() -> Launched | None:
    """Return the task that the innermost launcher has started here, None if there was none."""
    for size, rank in TASKS.items():
        if tasks := _count(os.environ.get(size, "")):
            return Launched(size, tasks, _count(os.environ.get(rank, "")) or 0)
    return None


def allocated_tasks() -> int:
    """Return the number of tasks that Slurm has room for in this job; 0 outside of one."""
    return _count(os.environ.get(ALLOCATED, "")) or 0


def under_mpirun() -> bool:
    """Tell whether Open MPI's mpirun started this task, and has its output."""
    return "OMPI_COMM_WORLD_SIZE" in os.environ


def scalapack() -> str:
    """Return the ScaLAPACK library's file that HPCSLMC_SCALAPACK names, "" if it does not.

    Raises
    ------
    UserError
        It is no regular file; a bare name is left to the loader.
    """
    name = os.environ.get("HPCSLMC_SCALAPACK", "")
    if "/" in name:
        try:
            check_regular(Path(name))
        except OSError as error:
            raise UserError(
                'method = "scalapack" needs the ScaLAPACK library that HPCSLMC_SCALAPACK = '
                f"{_shown('HPCSLMC_SCALAPACK')} "
                f"names ({error.strerror}): set HPCSLMC_SCALAPACK to its file."
            ) from None
    return name


def _count(text: str) -> int | None:
    """Read a number of ASCII digits, None where a text is anything else or absurdly long."""
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else None


def _shown(variable: str) -> str:
    """Prepare a variable's value for a sentence: printable, on one line, not too long."""
    text = "".join(c if c.isprintable() else "?" for c in os.environ[variable])
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def expanded(path: str, key: str) -> Path:
    """Expand ``~`` and environment variables, ``$NAME`` or ``${NAME}``, in a path of a job file.

    Parameters
    ----------
    path : str
    key : str
        Where it was given, for the message.

    Raises
    ------
    UserError
        If a variable is not set or empty, or a home folder is not known.
    """

    def value(found: re.Match) -> str:
        name = found[1] or found[2]
        if not os.environ.get(name):
            raise UserError(
                f"{key} = {path!r}: the environment variable {name} is not set: set it, "
                "or write the path out."
            )
        return os.environ[name]

    whole = re.sub(r"\$(?:(\w+)|\{(\w+)\})", value, path)
    if path.startswith("~"):
        whole = os.path.expanduser(whole)
        if whole.startswith("~"):
            raise UserError(
                f"{key} = {path!r}: the home folder {whole.split('/')[0]} is not known: "
                f"write the path out, or ./{path} for a name that begins so."
            )
    return Path(whole)


def terminal_width() -> int | None:
    """Return the columns of the terminal that standard error ends on, None where it is none.

    Under mpirun a rank's own streams say nothing of where its output ends, so its parent's is
    asked.
    """
    try:
        if under_mpirun():
            descriptor = os.open(
                f"/proc/{os.getppid()}/fd/2", os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK
            )
        else:
            descriptor = os.dup(2)
    except OSError:
        return None
    try:
        return os.get_terminal_size(descriptor).columns or 80
    except OSError:
        return None
    finally:
        os.close(descriptor)
