"""Time, work, memory and error of every exact weight, by lattice size.

    python tools/bench/weights.py [--lengths 6 8 12 16 24 32] [--beta 20] [--chains 16]
    python tools/bench/weights.py --dense-4096      # dense diagonalisation measured on 32x64 too
    python tools/bench/weights.py --costs           # writes the times that method = "auto" goes by
    mpirun -n 2 python tools/bench/weights.py    # all ranks share each weight, against one alone
    python tools/bench/weights.py --job JOB --shape 16 16 16    # of a job's system, at another size

On the first GPU where there is one, else on one CPU core. Times are medians of repetitions in turn,
speed-ups medians of ratios within a turn; J = 1, mu = 0. Dense diagonalisation is measured up to
32x32 (or 32x64) and extrapolated cubically beyond (marked ~). Errors are the largest difference of
log W from dense diagonalisation; beyond it, of matsubara from blocks.

Flops are real ones, a complex multiplication counting 6 and an addition 2: 16/3 n^3 for n
eigenvalues, the complex operations that an ``Elimination`` counts and those that MUMPS says it did,
each counted as 4. Memory is what the process grows by while a weight is made and evaluated once for
one configuration.
"""

import argparse
import ctypes
import math
import statistics
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from timing import alternate, matmul_rate, median_ratio, medians
from torch import Tensor

from hpcslmc.api import exact_weight
from hpcslmc.errors import UserError
from hpcslmc.job.load import load_job
from hpcslmc.parallel.hardware import device, prepare_process
from hpcslmc.parallel.world import MPIWorld, World
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice
from hpcslmc.storage.versions import versions
from hpcslmc.streams import Stream
from hpcslmc.weight import choice, make_weight
from hpcslmc.weight.blocks import Blocks
from hpcslmc.weight.matsubara import Matsubara
from hpcslmc.weight.method import ExactWeight

CONSOLE = Console(width=140, force_terminal=False)
COSTS = Path(choice.__file__).with_name(choice.TABLE)
COSTS_HEADER = """\
# Seconds of one exact evaluation (log_weight; forces: log W with forces)
# and the number of shifts it took, by number of
# sites of a square lattice. Made by: python tools/bench/weights.py --costs
"""
MB = 2**20


@dataclass
class Measured:
    """What was found on one lattice; dictionaries by method, times in seconds per configuration.

    Attributes
    ----------
    shape : (int, int)
    shifts : dict of int
    seconds : dict of float
        By method and by ``method + forces``; ``LAPACK`` is the fastest way to all eigenvalues,
        measured or extrapolated.
    dense : bool
        Whether ``LAPACK`` was measured.
    flops : dict of float
        Per configuration.
    peak : float
        Flop/s of a complex matrix product.
    memory : dict of (float, float)
        Growth and peak in bytes; of the device on a GPU, else of the process.
    mumps_bytes : float
        What MUMPS says it used.
    errors : dict of float
    """

    shape: tuple[int, int]
    shifts: dict[str, int]
    seconds: dict[str, float]
    dense: bool
    flops: dict[str, float]
    peak: float
    memory: dict[str, tuple[float, float]]
    mumps_bytes: float
    errors: dict[str, float]

    @property
    def name(self) -> str:
        return "x".join(map(str, self.shape))

    @property
    def size(self) -> int:
        """Rows of the matrix."""
        return 2 * math.prod(self.shape)


def memory(call: Callable[[], object], where: str) -> tuple[float, float]:
    """Growth and peak of memory during a call, in bytes; on a CPU from Linux' account of the
    process.
    """
    if where != "cpu":
        torch.accelerator.reset_peak_memory_stats()
        before = torch.accelerator.memory_allocated()
        call()
        peak = torch.accelerator.max_memory_allocated()
        return peak - before, peak
    ctypes.CDLL(None).malloc_trim(0)  # what earlier calls have freed goes back to the system
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _status("VmRSS")
    call()
    peak = _status("VmHWM")
    return peak - before, peak


def _status(key: str) -> float:
    """Bytes from a line of the process's status."""
    (line,) = (
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key)
    )
    return 1024.0 * int(line.split()[1])


def available(sites: int, largest_dense: int) -> list[str]:
    """Methods that can be measured at this size; matsubara only where its libraries are."""
    methods = ["diagonalise", "blocks"] if sites <= largest_dense else ["blocks"]
    try:
        make_weight(
            "matsubara", Ensemble(Hamiltonian(Lattice((2, 2)), 1.0, 1.0), 1.0, 0.0), World()
        )
    except UserError:
        return methods
    return [*methods, "matsubara"]


def free_spins(hamiltonian: Hamiltonian, chains: int, where: str) -> Tensor:
    """(chains, sites, 3), fewer chains where one configuration fills the machine."""
    sites = hamiltonian.lattice.sites
    chains = max(1, min(chains, 2304 // sites))
    return Stream(1, torch.arange(chains, device=where), "weights").directions(sites)


def shifts(weight: Blocks | Matsubara) -> int:
    return len(weight.nodes.weights)


def calls_of(weights: dict[str, ExactWeight], spins: Tensor) -> dict[str, Callable[[], object]]:
    """log W, and log W with forces."""
    calls = {}
    for method, weight in weights.items():
        calls[method] = lambda weight=weight: weight.log_weight(spins)
        calls[method + " + forces"] = lambda weight=weight: weight.log_weight_and_forces(spins)
    return calls


def flops(
    weights: dict[str, ExactWeight], shape: tuple[int, int]
) -> tuple[dict[str, float], float]:
    """Real floating-point operations per configuration, and bytes that MUMPS used."""
    found, used = {"diagonalise": 16.0 / 3.0 * (2 * math.prod(shape)) ** 3}, 0.0
    if blocks := weights.get("blocks"):
        for method, forces in (("blocks", False), ("blocks + forces", True)):
            found[method] = 4.0 * blocks.elimination.operations(forces) * shifts(blocks)
    if "matsubara" in weights:
        mumps = weights["matsubara"].statistics()
        found["matsubara"] = 4.0 * mumps.operations * shifts(weights["matsubara"])
        used = mumps.bytes
    return found, used


def measure(
    shape: tuple[int, int], options: argparse.Namespace, where: str, dense_seconds: dict[int, float]
) -> Measured:
    """Every method on one lattice."""
    hamiltonian = Hamiltonian(Lattice(shape), 1.0, 1.0, where)
    spins = free_spins(hamiltonian, options.chains, where)
    sites, chains = hamiltonian.lattice.sites, len(spins)
    weights, used = {}, {}
    for method in available(sites, 2048 if options.dense_4096 else 1024):

        def first(method: str = method) -> None:
            weights[method] = make_weight(method, Ensemble(hamiltonian, options.beta, 0.0), World())
            weights[method].log_weight(spins[:1])

        used[method] = memory(first, where)
    calls, dense = calls_of(weights, spins), "diagonalise" in weights
    if dense:
        matrices = hamiltonian.dense(spins).cpu().numpy()
        calls["numpy"] = lambda: np.linalg.eigvalsh(matrices)
    seconds = {name: seconds / chains for name, seconds in medians(calls).items()}
    if dense:
        dense_seconds[2 * sites] = seconds["LAPACK"] = min(seconds["numpy"], seconds["diagonalise"])
    else:
        seconds["LAPACK"] = extrapolated(dense_seconds, 2 * sites)
    values = {method: weight.log_weight(spins) for method, weight in weights.items()}
    reference = next(iter(values.values()))
    work, mumps_bytes = flops(weights, shape)
    return Measured(
        shape,
        {m: shifts(w) for m, w in weights.items() if m != "diagonalise"},
        seconds,
        dense,
        work,
        matmul_rate(where),
        used,
        mumps_bytes,
        {m: float((v - reference).abs().max()) for m, v in list(values.items())[1:]},
    )


def extrapolated(dense_seconds: dict[int, float], n: int) -> float:
    """Seconds for n eigenvalues, cubic through the geometric mean of what was measured from 2048
    on.
    """
    factors = [s / size**3 for size, s in dense_seconds.items() if size >= 2048]
    return statistics.geometric_mean(factors) * n**3 if factors else math.nan


def milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{1e3 * seconds:.3g}"


def beside_fastest(row: Measured, beta: float, kind: str, forces: bool) -> str:
    """Time of the method that ``auto`` takes over that of the fastest."""
    method, _ = choice.choose_method(
        Ensemble(Hamiltonian(Lattice(row.shape), 1.0, 1.0), beta, 0.0), kind, 1, forces
    )
    what = " + forces" if forces else ""
    times = {
        m: row.seconds[m + what]
        for m in ("diagonalise", "blocks", "matsubara")
        if m + what in row.seconds
    }
    return f"{times[method] / min(times.values()):.2f}" if method in times else "-"


def time_table(rows: list[Measured], beta: float, kind: str) -> Table:
    columns = (
        "diagonalise",
        "blocks",
        "matsubara",
        "diagonalise + forces",
        "blocks + forces",
        "matsubara + forces",
    )
    table = Table(
        "lattice",
        "shifts",
        "best LAPACK",
        *(c.replace(" + ", "\n+ ") for c in columns),
        "LAPACK /\nfastest",
        "auto / fastest,\nwith forces",
        "errors",
        title="ms per configuration",
    )
    for row in rows:
        mark = "" if row.dense else "~"
        fastest = min(
            row.seconds[m] for m in ("diagonalise", "blocks", "matsubara") if m in row.seconds
        )
        table.add_row(
            row.name,
            " ".join(map(str, row.shifts.values())),
            mark + milliseconds(row.seconds["LAPACK"]),
            *(milliseconds(row.seconds.get(c)) for c in columns),
            f"{mark}{row.seconds['LAPACK'] / fastest:.1f}",
            f"{beside_fastest(row, beta, kind, False)}, {beside_fastest(row, beta, kind, True)}",
            " ".join(f"{e:.0e}" for e in row.errors.values()),
        )
    return table


def work_table(rows: list[Measured]) -> Table:
    table = Table(
        "lattice",
        "method",
        "Gflop",
        "Gflop/s",
        "of matmul",
        "grows by / MB",
        "peak / MB",
        "MUMPS / MB",
        title="work of one log W, rate, share of a complex matrix product's rate, memory",
    )
    for row in rows:
        for method in ("diagonalise", "blocks", "blocks + forces", "matsubara"):
            if method in row.seconds:
                rate = row.flops[method] / row.seconds[method]
                sizes = [f"{b / MB:.0f}" for b in row.memory.get(method, ())] or ["", ""]
                table.add_row(
                    row.name,
                    method,
                    f"{row.flops[method] / 1e9:.3g}",
                    f"{rate / 1e9:.1f}",
                    f"{rate / row.peak:.0%}",
                    *sizes,
                    f"{row.mumps_bytes / MB:.0f}" if method == "matsubara" else "",
                )
        table.add_section()
    return table


def print_growth(rows: list[Measured], dense_seconds: dict[int, float]) -> None:
    """Exponents of the measured times."""
    for method in ("blocks", "matsubara"):
        points = [
            (math.log(row.size), math.log(row.seconds[method]))
            for row in rows
            if row.size >= 2048 and row.shape[0] == row.shape[1] and method in row.seconds
        ]
        if len(points) >= 2:
            print(f"{method}: time grows as N^{np.polyfit(*zip(*points), 1)[0]:.2f} from 32x32 on")
    large = {n: s for n, s in dense_seconds.items() if n >= 1000}
    if len(large) >= 2:
        exponent = np.polyfit(np.log(list(large)), np.log(list(large.values())), 1)[0]
        points = ", ".join(f"{s:.3g} s at n = {n}" for n, s in large.items())
        print(f"LAPACK: {points}; grows as n^{exponent:.2f}, extrapolated as n^3")


def write_costs(rows: list[Measured], beta: float, kind: str) -> None:
    """Write this device's times into the table that ``auto`` goes by; others keep theirs."""
    table = tomllib.loads(COSTS.read_text()) if COSTS.exists() else {}
    about = versions(World())
    section: dict = {
        "made": (
            f"J = 1, mu = 0, beta = {beta:g}; {'one core' if kind == 'cpu' else 'one GPU'}, torch "
            f"{about['torch']}"
        )
    }
    for method in ("diagonalise", "blocks", "matsubara"):
        having = [row for row in rows if method in row.seconds and row.shape[0] == row.shape[1]]
        if len(having) < 2:
            continue
        section[method] = {"sites": [row.size // 2 for row in having]}
        if method != "diagonalise":
            section[method]["shifts"] = [row.shifts[method] for row in having]
        section[method]["log_weight"] = [_rounded(row.seconds[method]) for row in having]
        section[method]["forces"] = [
            _rounded(row.seconds[f"{method} + forces"])
            for row in having
            if f"{method} + forces" in row.seconds
        ]
    lines = [COSTS_HEADER]
    for device_kind, methods in (table | {kind: section}).items():
        lines.append(f'[{device_kind}]\nmade = "{methods["made"]}"\n')
        for method, costs in methods.items():
            if isinstance(costs, dict):
                lines.append(
                    "\n".join(
                        [
                            f"[{device_kind}.{method}]",
                            *(f"{key} = {values}" for key, values in costs.items()),
                            "",
                        ]
                    )
                )
    COSTS.write_text("\n".join(lines))
    print(f"{COSTS} holds these times for {kind}")


def _rounded(seconds: float) -> float:
    return float(f"{seconds:.3g}")


def group_table(
    shapes: list[tuple[int, int]], options: argparse.Namespace, where: str, world: World
) -> Table:
    """One rank alone and all together, in turn. Collective."""
    table = Table(
        "lattice",
        "chains",
        "shifts",
        "weight",
        "one rank",
        f"{world.size} ranks",
        "speed-up",
        "at best",
        title="ms per configuration, one rank alone and all ranks as one group",
    )
    for shape in shapes:
        hamiltonian = Hamiltonian(Lattice(shape), 1.0, 1.0, where)
        spins = free_spins(hamiltonian, options.chains, where)
        for method in available(math.prod(shape), 0):
            weights = {
                name: make_weight(method, Ensemble(hamiltonian, options.beta, 0.0), group)
                for name, group in (("alone", World()), ("together", world))
            }
            work = len(spins) * shifts(weights["alone"])
            calls = calls_of(weights, spins)
            times = alternate(calls, world, ("together", "together + forces"))
            for what in ("", " + forces") if "alone + forces" in calls else ("",):
                alone, together = times["alone" + what], times["together" + what]
                table.add_row(
                    "x".join(map(str, shape)),
                    str(len(spins)),
                    str(shifts(weights["alone"])),
                    method + what,
                    *(milliseconds(statistics.median(t) / len(spins)) for t in (alone, together)),
                    f"{median_ratio(alone, together):.2f}",
                    f"{work / math.ceil(work / world.size):.2f}",
                )
        table.add_section()
    return table


def of_job(path: str, shape: list[int] | None, where: str) -> Table:
    """Time of one configuration of a job's system, by the methods that need no dense matrix."""
    job = load_job(path)
    lattice = job.lattice.model_copy(update={"shape": tuple(shape or job.lattice.shape)}).make()
    hamiltonian = Hamiltonian(lattice, job.couplings, device=where)
    spins = free_spins(hamiltonian, 1, where)
    table = Table("method", "log W / s", "with forces / s", "memory at most / MB")
    for method in ("blocks", "matsubara"):
        weight = exact_weight(hamiltonian, job.ensemble.temperatures[0], job.hamiltonian.mu, method)
        calls = calls_of({method: weight}, spins)
        _, peak = memory(calls[f"{method} + forces"], where)
        found = medians(calls)
        table.add_row(method, *(f"{found[name]:.3g}" for name in calls), f"{peak / MB:.0f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--lengths", type=int, nargs="+", default=[6, 8, 12, 16, 24, 32, 48, 64, 96, 128]
    )
    parser.add_argument("--beta", type=float, default=20.0)
    parser.add_argument(
        "--chains",
        type=int,
        default=16,
        help="configurations at once, at most; fewer on large lattices",
    )
    parser.add_argument("--dense-4096", action="store_true", help="add 32x64, diagonalised too")
    parser.add_argument(
        "--costs", action="store_true", help=f'write {COSTS.name}, which method = "auto" reads'
    )
    parser.add_argument("--job", help="time this job's system alone")
    parser.add_argument("--shape", type=int, nargs="+", help="in place of the job's")
    options = parser.parse_args()
    world = MPIWorld()
    where, threads = device(world), prepare_process()
    shapes = [(length, length) for length in options.lengths] + (
        [(32, 64)] if options.dense_4096 else []
    )
    shapes.sort(key=math.prod)
    if options.job:
        CONSOLE.print(of_job(options.job, options.shape, where))
        return
    if world.is_root:
        print(f"{where}, {threads} thread(s) a rank, beta = {options.beta:g}")
    if world.size > 1:
        table = group_table(shapes, options, where, world)
        if world.is_root:
            CONSOLE.print(table)
        return
    dense_seconds: dict[int, float] = {}
    rows = [measure(shape, options, where, dense_seconds) for shape in shapes]
    kind = where.split(":")[0]
    CONSOLE.print(time_table(rows, options.beta, kind))
    CONSOLE.print(work_table(rows))
    print_growth(rows, dense_seconds)
    if options.costs:
        write_costs(rows, options.beta, kind)


if __name__ == "__main__":
    main()
