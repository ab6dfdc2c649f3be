"""Does equivariance pay? Error and acceptance by compute, data and depth, with it and without.

    python tools/study/equivariance.py [--workers 1] [--time-limit SECONDS] [--seeds 3]
        [--budgets 2e10 6.3e10 2e11 6.3e11 2e12] [--parts compute data depth] [--arms gatr ...]
    python tools/study/equivariance_figures.py

Every training is independent of all others; its results are added to one file when it ends
(out/equivariance/study.h5), and what is there is not done again. Exact data are made first, and
kept in the same file. A new file starts from the results of tools/study/equivariance.h5, to which
``--keep`` adds those of the file. A budget is FLOPs of a training: matrix products of log W_eff,
forces, and the gradient of their errors. Each worker takes one core; with a time limit no training
starts after it, and none that took longer than what is left when it was done with another seed.
"""

import argparse
import shutil
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path

import h5py
import numpy as np
from equivariance_arms import ARMS, DATA_SIZES, Cell, all_cells
from equivariance_cells import LEARNING_CHAINS, TEST_CHAINS, TRAINING_CHAINS, Study
from exact_samples import add_point, ensemble_of, exact_data

from hpcslmc.learning.data import NAMES
from hpcslmc.learning.replay import KINDS
from hpcslmc.parallel.hardware import prepare_process
from hpcslmc.physics.ensemble import Ensemble

FILE = Path(__file__).resolve().parents[2] / "out/equivariance/study.h5"
KEPT = Path(__file__).resolve().parent / "equivariance.h5"
"""Results alone, without the data."""
BUDGETS = (2e10, 6.3e10, 2e11, 6.3e11, 2e12)
DATA_BUDGET, DEPTH_STEPS = 6.3e11, 700
PARTS = ("compute", "data", "depth")
APART = 6
"""Points of exact trajectories from one configuration to the next."""

study: Study
"""Of a worker."""


def prepare(ensemble: Ensemble, arrays: dict[str, np.ndarray], length: float) -> None:
    """Give a worker the data."""
    global study
    prepare_process()
    study = Study(ensemble, arrays, length)


def results(cell: Cell) -> list[dict]:
    """What a worker finds in a cell."""
    return study.results(cell)


def set_aside(path: Path) -> None:
    """Write the results of a file to those that are kept."""
    with h5py.File(path) as file, h5py.File(KEPT, "w") as kept:
        kept.attrs.update(file.attrs)
        file.copy("results", kept)


def make_data(path: Path, ensemble: Ensemble) -> None:
    """Make the exact data, if the file has none; a new file gets the results that are kept."""
    if KEPT.exists() and not path.exists():
        shutil.copy(KEPT, path)
    with h5py.File(path, "a") as file:
        if "data" in file:
            return
    draws = DATA_SIZES[-1] // TRAINING_CHAINS
    data, exact, _, _ = exact_data(ensemble, LEARNING_CHAINS + TEST_CHAINS, draws * APART)
    with h5py.File(path, "a") as file:
        group = file.create_group("data")
        group.attrs["length"] = exact.length
        for name, array in zip(NAMES, data.stacked(), strict=True):
            kept = array[:, APART - 1 : draws * APART : APART].numpy()
            group.create_dataset(name, data=kept.astype(KINDS[name]))
        file.attrs["sites"] = ensemble.hamiltonian.lattice.sites


def keep(path: Path, cell: Cell, found: list[dict]) -> None:
    """Add what was found in a cell to the file."""
    with h5py.File(path, "a") as file:
        for row, values in enumerate(found):
            file.create_group(f"results/{cell.name}/{row}").attrs.update(values)


def fitting(waiting: list[Cell], known: dict[Cell, float], left: float) -> Cell | None:
    """The first cell that takes less time than is left, as far as it is known."""
    return next((cell for cell in waiting if known.get(cell._replace(seed=0), 0.0) < left), None)


def run(path: Path, ensemble: Ensemble, cells: list[Cell], workers: int, time_limit: float) -> None:
    """Do all cells that are not in the file, until the time is over."""
    known: dict[Cell, float] = {}
    with h5py.File(path, "r") as file:
        arrays = {name: file["data"][name][()] for name in NAMES}
        length = float(file["data"].attrs["length"])
        done = [cell for cell in cells if f"results/{cell.name}" in file]
        for cell in done:
            known[cell._replace(seed=0)] = file[f"results/{cell.name}/0"].attrs["elapsed"]
    waiting = [cell for cell in cells if cell not in done]
    print(f"{len(done)} of {len(cells)} trainings are done", flush=True)
    ends, running = time.monotonic() + time_limit, dict[Future, Cell]()
    given = ensemble, arrays, length
    with ProcessPoolExecutor(workers, get_context("spawn"), prepare, given) as pool:
        while True:
            while len(running) < workers:
                cell = fitting(waiting, known, ends - time.monotonic())
                if cell is None:
                    break
                waiting.remove(cell)
                running[pool.submit(results, cell)] = cell
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                cell = running.pop(future)
                if error := future.exception():
                    print(f"{cell.name}: {error!r}", flush=True)
                    continue
                found = future.result()
                keep(path, cell, found)
                known[cell._replace(seed=0)] = found[0]["elapsed"]
                print(f"{cell.name}: {found[0]['elapsed']:.0f} s", flush=True)
    print(f"{len(waiting)} trainings are left", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_point(parser, 6)
    parser.add_argument("--file", type=Path, default=FILE)
    parser.add_argument("--budgets", type=float, nargs="*", default=BUDGETS, help="FLOPs")
    parser.add_argument(
        "--data-budget", type=float, default=DATA_BUDGET, help="of trainings on few data"
    )
    parser.add_argument(
        "--depth-steps", type=int, default=DEPTH_STEPS, help="of trainings by layers"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--time-limit", type=float, default=float("inf"), help="seconds")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--arms", nargs="*", choices=ARMS, default=list(ARMS), metavar="ARM")
    parser.add_argument("--keep", action="store_true", help=f"write the results to {KEPT.name}")
    options = parser.parse_args()
    if options.keep:
        set_aside(options.file)
        return
    began = time.monotonic()
    prepare_process()
    ensemble = ensemble_of(options)
    options.file.parent.mkdir(parents=True, exist_ok=True)
    make_data(options.file, ensemble)
    cells = all_cells(
        ensemble,
        budgets=options.budgets if "compute" in options.parts else (),
        data_budget=options.data_budget if "data" in options.parts else 0.0,
        depth_steps=options.depth_steps if "depth" in options.parts else 0,
        seeds=options.seeds,
    )
    cells = [cell for cell in cells if cell.arm in options.arms]
    left = options.time_limit - (time.monotonic() - began)
    run(options.file, ensemble, cells, options.workers, left)


if __name__ == "__main__":
    main()
