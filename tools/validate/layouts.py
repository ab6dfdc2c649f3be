"""How far the chains of one job on other numbers of ranks and threads drift apart by rounding.

Runs a small job (6x6, T = 0.1) by several samplers on 1 rank, on 2 and 4 ranks, and on 1 rank of 2
threads, and prints the largest difference of a draw of log W from the first, after several numbers
of samples.

    python tools/validate/layouts.py [--samples 100]
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from hpcslmc.analysis.results_file import read

JOB = """
[lattice]
shape = [6, 6]
[ensemble]
temperature = 0.1
[effective]
model = "attention"
layers = 1
[thermalisation]
moves = 20
[learning]
rounds = 1
configurations = 20
steps = 100
[sampling]
chains = 8
samples = {samples}
{sampler}
[output]
directory = "{directory}"
"""
SAMPLERS = {
    "self-learning": "",
    "exact HMC": 'method = "exact"',
    "exact HMC, one short trajectory": 'method = "exact"\nmoves = 1\ntrajectory = 0.5',
    "Metropolis": 'method = "exact"\nexact_move = "metropolis"',
}
LAYOUTS = {"1 rank": (1, 1), "2 ranks": (2, 1), "4 ranks": (4, 1), "2 threads": (1, 2)}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=100)
    options = parser.parse_args()
    after = [n for n in (10, 25, 50, 100, 1000) if n <= options.samples]
    table = Table(
        "sampler",
        "layout",
        *(f"after {n}" for n in after),
        title="largest difference of log W from 1 rank",
    )
    with tempfile.TemporaryDirectory() as folder:
        for sampler, keys in SAMPLERS.items():
            draws = {}
            for layout, (ranks, threads) in LAYOUTS.items():
                draws[layout] = _draws(Path(folder), keys, ranks, threads, options.samples)
            for layout in list(LAYOUTS)[1:]:
                apart = np.abs(draws[layout] - draws["1 rank"])
                table.add_row(sampler, layout, *(f"{apart[:, :n].max():.1g}" for n in after))
    Console(width=110, force_terminal=False).print(table)
    return 0


def _draws(folder: Path, sampler: str, ranks: int, threads: int, samples: int) -> np.ndarray:
    """Run the job; returns log W (chains, samples)."""
    directory = folder / f"{len(list(folder.iterdir()))}"
    job = folder / "job.toml"
    job.write_text(JOB.format(samples=samples, sampler=sampler, directory=directory))
    subprocess.run(
        ["mpirun", "-n", str(ranks), sys.executable, "-m", "hpcslmc.run", str(job), "--quiet"],
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
    )
    results = read(directory)
    return results.draws["log_weight"] * results.spins.shape[1]


if __name__ == "__main__":
    sys.exit(main())
