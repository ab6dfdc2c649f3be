"""Count copies between host and accelerator, and waits of the host, for each sample of a job.

    python tests/support/copies.py [--where] [job.toml ...]

Jobs run in this process on the simulated accelerator of the tests, which counts what a real one
would have to do; without a job file, the small jobs of the tests do. Each runs twice, the second
time with twice the samples: the difference belongs to the samples. ``--where`` lists the lines of
the package that copy or wait in the longer run, learning included.
"""

import argparse
import traceback
from collections import Counter
from pathlib import Path

from accelerator_jobs import JOBS, make_job
from simulated_accelerator import Counts, counts
from torch.utils._python_dispatch import TorchDispatchMode

import hpcslmc
from hpcslmc import run_job
from hpcslmc.job.load import load_job
from hpcslmc.job.schema import Job

BINS = 4
"""The fewest that a run needs for its errors."""
PACKAGE = Path(hpcslmc.__file__).parent


class Places(TorchDispatchMode):
    """Counts copies and waits by operation and line of the package."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[tuple[str, str, Counts]] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        before = counts()
        result = function(*args, **(kwargs or {}))
        cost = counts() - before
        if cost != Counts(0, 0, 0):
            frames = [f for f in traceback.extract_stack() if f.filename.startswith(str(PACKAGE))]
            frame = frames[-1]
            line = f"{Path(frame.filename).relative_to(PACKAGE)}:{frame.lineno} {frame.name}"
            self.found[str(function), line, cost] += 1
        return result


def count(job: Job, samples: int, places: Places | None = None) -> Counts:
    """What a run of so many samples takes in all."""
    sampling = job.sampling.model_copy(update={"samples": samples})
    before = counts()
    if places is None:
        run_job(job.model_copy(update={"sampling": sampling}))
    else:
        with places:
            run_job(job.model_copy(update={"sampling": sampling}))
    return counts() - before


def main() -> None:
    """Print the copies of each job."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("jobs", nargs="*", metavar="job.toml")
    parser.add_argument("--where", action="store_true", help="list the lines that copy or wait")
    options = parser.parse_args()
    jobs = {path: load_job(path) for path in options.jobs}
    jobs = jobs or {name: make_job(changes) for name, changes in JOBS.items()}
    print(f"{'for each sample':30} {'to device':>10} {'to host':>10} {'waits':>10}")
    for name, job in jobs.items():
        samples = BINS * job.sampling.bin_size
        places = Places() if options.where else None
        short = count(job, samples)
        extra = count(job, 2 * samples, places) - short
        numbers = (extra.to_device, extra.to_host, extra.waits)
        print(f"{name:30} " + " ".join(f"{n / samples:10.2f}" for n in numbers), flush=True)
        for (function, line, cost), times in places.found.most_common() if places else ():
            print(f"    {times:6} x {function} at {line}: {cost}")


if __name__ == "__main__":
    main()
