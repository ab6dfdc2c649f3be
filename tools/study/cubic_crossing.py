"""The ferromagnetic transition of cubic double exchange, from Binder ratios of several sizes.

    python tools/study/cubic_crossing.py [--lengths 4 6 8] [--T 0.09 0.086 0.082]
    [--effort 1] [--output out/cubic_crossing] [--finished] [--keep] [--twist 0.25]

A run of the program for each size and temperature: J = 16, mu = -8.1 (half an electron a site),
electrons with the twist of the boundary, the same along each axis, at which electrons of parallel
spins have the grand potential of a large lattice: with 1/4 of a turn closed shells let 4^3 order at
temperatures 3 % higher. (With ``--twist`` all sizes have the same, in a folder of its own, and
nothing that is kept counts.)
4^3 and 6^3 learn; 8^3 and 10^3 take the levels of 6^3 unchanged. Runs that have ended are not run
again, and one that was cut off goes on; ``--finished`` analyses those that are there, beside those
whose moments tools/study/cubic_crossing.jsonl has, to which ``--keep`` adds them. The logit of
the ratio U of each size, log(U / (1 - U)), is fitted by a parabola in T; crossings get their errors
from the chains, drawn with replacement. Prints a table, and draws ``crossing.png`` in the output
directory.
"""

import argparse
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import h5py
import matplotlib.pyplot as plt
import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.optimize import brentq

from hpcslmc.analysis.statistics import bracket

SIZES = {4: (32, 400), 6: (16, 250), 8: (8, 100), 10: (8, 80)}
"""Chains and samples by length."""
LEARNED_AT = {8: 6, 10: 6}
UNIVERSAL = 2.5 - 1.5 * 1.13929
"""Binder ratio at the transition of O(3), periodic cubes: M. Hasenbusch, PRB 102, 024406 (2020)."""
NU = 0.71164
"""Exponent of the correlation length of O(3), from the same work."""
RESAMPLED = 400
POLARISED_T, POLARISED_LENGTH = 0.1, 96
"""Temperature of the electrons of parallel spins, and a large lattice."""
TWISTS = {4: (0.1, 0.25), 6: (0.25, 0.4), 8: (0.1, 0.25), 10: (0.25, 0.4)}
"""Ends between which the twist of a length is looked for."""


KEPT = Path(__file__).with_suffix(".jsonl")


class Moments(NamedTuple):
    """Means of |m|^2 and |m|^4 of each chain, (2, chains), of a size at a temperature."""

    length: int
    temperature: float
    of_chains: np.ndarray


def folder(output: Path, length: int, temperature: float) -> Path:
    return output / f"{length}x{length}x{length}_T{temperature:g}"


def polarised(length: int, twist: float) -> float:
    """Grand potential per site of the electrons of parallel spins, in the middle of their band."""
    momenta = 2.0 * np.pi * (np.arange(length) + twist) / length
    bands = -2.0 * np.cos(momenta)
    levels = bands[:, None, None] + bands[:, None] + bands
    return float(-POLARISED_T * np.logaddexp(0.0, -levels / POLARISED_T).mean())


def neutral_twist(length: int) -> float:
    """Twist at which parallel spins are as favourable as on a large lattice."""
    large = polarised(POLARISED_LENGTH, 0.25)
    return float(brentq(lambda twist: polarised(length, twist) - large, *TWISTS[length]))


def job_of(
    output: Path, length: int, temperature: float, effort: float, twist: float | None
) -> str:
    """Write the job file of a size at a temperature."""
    chains, samples = SIZES[length]
    twist = round(neutral_twist(length), 4) if twist is None else twist
    lines = [
        f'[lattice]\nname = "cubic"\nshape = {[length] * 3}\ntwist = {[twist] * 3}',
        "[hamiltonian]\nJ = 16.0\nmu = -8.1",
        f"[ensemble]\ntemperature = {temperature}",
        f"[sampling]\nchains = {chains}\nsamples = {max(10, round(effort * samples))}",
        f"[output]\ndirectory = {json.dumps(str(folder(output, length, temperature)))}",
    ]
    if length in LEARNED_AT:
        learned = folder(output, LEARNED_AT[length], temperature)
        lines += [
            f"[[effective]]\nstart_from = {json.dumps(str(learned / name))}"
            for name in ("level_0.h5", "model.h5")
        ]
        lines.append("[learning]\nrounds = 0")
    return "\n\n".join(lines) + "\n"


def run(output: Path, length: int, temperature: float, effort: float, twist: float | None) -> None:
    """Run a size at a temperature to its end, unless it has ended."""
    where = folder(output, length, temperature)
    if (where / "results.h5").exists():
        return
    if length in LEARNED_AT:
        run(output, LEARNED_AT[length], temperature, effort, twist)
    output.mkdir(parents=True, exist_ok=True)
    job = where.with_suffix(f"{where.suffix}.toml")
    job.write_text(job_of(output, length, temperature, effort, twist))
    subprocess.run([sys.executable, "-m", "hpcslmc.run", str(job)], check=True)


def read(path: Path) -> Moments:
    """Read the results of a run."""
    with h5py.File(path) as file:
        draws = [file[f"draws/m{power}_uniform"][()] for power in (2, 4)]
        length = round(file["spins"].shape[1] ** (1.0 / 3.0))
        moments = np.array([x.mean(1) for x in draws])
        return Moments(length, float(file["temperature"][()]), moments)


def known(output: Path, with_kept: bool) -> list[Moments]:
    """All moments: those that are kept, and those of the runs that have ended, which go before."""
    lines = KEPT.read_text().splitlines() if with_kept and KEPT.exists() else []
    kept = [Moments(n, T, np.array(x)) for n, T, x in map(json.loads, lines)]
    ended = [read(path) for path in output.glob("*/results.h5")]
    found = {one[:2]: one for one in (*kept, *ended)}
    return [found[key] for key in sorted(found)]


def binder(of_chains: np.ndarray) -> float:
    m2, m4 = of_chains.mean(1)
    return float(2.5 - 1.5 * m4 / m2**2)


class Fit(NamedTuple):
    """Ratios of a size with their errors, and the parabola in T - middle of their logits."""

    temperatures: np.ndarray
    ratios: np.ndarray
    errors: np.ndarray
    polynomial: np.poly1d

    def ratio(self, from_middle: np.ndarray) -> np.ndarray:
        """The fit at temperatures from the middle."""
        return 1.0 / (1.0 + np.exp(-self.polynomial(from_middle)))


def fit(runs: list[Moments], middle: float, errors: np.ndarray | None = None) -> Fit:
    """Fit the ratios of a size; errors by leaving chains out unless they are known."""
    temperatures = np.array([one.temperature for one in runs])
    ratios = np.array([binder(one.of_chains) for one in runs])
    if errors is None:
        errors = np.array([jackknife(one.of_chains) for one in runs])
    slopes = ratios * (1.0 - ratios)
    logits = np.log(ratios / (1.0 - ratios))
    degree = min(2, len(runs) - 1)
    found = np.polyfit(temperatures - middle, logits, degree, w=slopes / errors)
    return Fit(temperatures, ratios, errors, np.poly1d(found))


def jackknife(of_chains: np.ndarray) -> float:
    chains = of_chains.shape[1]
    without = [binder(np.delete(of_chains, chain, axis=1)) for chain in range(chains)]
    return float(np.sqrt((chains - 1) * np.var(without)))


def crossing(small: Fit, large: Fit, middle: float) -> tuple[float, float]:
    """Return temperature and ratio where two sizes agree between temperatures of both; or nan."""
    roots = (large.polynomial - small.polynomial).roots
    found = middle + roots[np.isreal(roots)].real
    low, high = (
        max(one.temperatures.min() for one in (small, large)),
        min(one.temperatures.max() for one in (small, large)),
    )
    found = found[(low <= found) & (found <= high)]
    if len(found) != 1:
        return np.nan, np.nan
    return float(found[0]), float(small.ratio(found[0] - middle))


def resampled(runs: list[Moments], generator: np.random.Generator) -> list[Moments]:
    """Draw as many chains of each run, with replacement."""
    drawn = []
    for one in runs:
        chains = one.of_chains.shape[1]
        drawn.append(
            one._replace(of_chains=one.of_chains[:, generator.integers(chains, size=chains)])
        )
    return drawn


def analyse(sizes: dict[int, list[Moments]], output: Path) -> None:
    """Print the ratios and crossings, and draw them."""
    middle = float(np.mean([one.temperature for runs in sizes.values() for one in runs]))
    fits = {length: fit(runs, middle) for length, runs in sizes.items()}
    table = Table("T", *(f"{length}^3" for length in sizes), title="Binder ratio")
    for temperature in sorted({t for one in fits.values() for t in one.temperatures}):
        cells = []
        for one in fits.values():
            (at,) = np.nonzero(one.temperatures == temperature)
            cells += [bracket(one.ratios[k], one.errors[k]) for k in at] or [""]
        table.add_row(f"{temperature:g}", *cells)
    Console(width=100).print(table)
    generator, found = np.random.default_rng(1), []
    lengths = list(sizes)
    for small, large in zip(lengths, lengths[1:], strict=False):
        at = crossing(fits[small], fits[large], middle)
        if np.isnan(at[0]):
            print(f"{small}^3 and {large}^3 do not cross once between temperatures of both")
            continue
        others = [
            crossing(
                *(
                    fit(resampled(sizes[n], generator), middle, fits[n].errors)
                    for n in (small, large)
                ),
                middle,
            )
            for _ in range(RESAMPLED)
        ]
        error = np.nanstd(others, axis=0)
        found.append((at[0], error[0]))
        print(
            f"{small}^3 and {large}^3 cross at T = {bracket(at[0], error[0])}, "
            f"ratio {bracket(at[1], error[1])}; O(3): {UNIVERSAL:.4f}; "
            f"{np.isfinite(others).all(1).mean():.0%} of the draws cross"
        )
    draw(fits, middle, found[-1] if found else (middle, 0.0), output / "crossing.png")


def draw(fits: dict[int, Fit], middle: float, critical: tuple[float, float], path: Path) -> None:
    """Draw the ratios against T, and against the scaling variable of O(3)."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.0, 2.8), sharey=True)
    for (length, one), colour in zip(fits.items(), ("C0", "C1", "C2", "C3"), strict=False):
        label = rf"${length}^3$"
        left.errorbar(
            one.temperatures, one.ratios, one.errors, fmt="o", ms=4, color=colour, label=label
        )
        fine = np.linspace(one.temperatures.min(), one.temperatures.max(), 100)
        left.plot(fine, one.ratio(fine - middle), color=colour, lw=1)
        scaled = (one.temperatures / critical[0] - 1.0) * length ** (1.0 / NU)
        right.errorbar(scaled, one.ratios, one.errors, fmt="o", ms=4, color=colour, label=label)
    left.axvspan(critical[0] - critical[1], critical[0] + critical[1], color="0.85", lw=0)
    for axes in (left, right):
        axes.axhline(UNIVERSAL, color="k", lw=0.8, ls="--", label="O(3) at its transition")
    left.set(xlabel=r"temperature $T$ [$t$]", ylabel=r"Binder ratio of $|m|$")
    right.set(xlabel=r"$(T/T_{\rm c} - 1)\, L^{1/\nu}$, $\nu$ of O(3)")
    left.legend(fontsize=8, frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[4, 6, 8], choices=list(SIZES))
    parser.add_argument("--T", type=float, nargs="+", default=[0.09, 0.086, 0.082])
    parser.add_argument("--effort", type=float, default=1.0, help="samples in units of the default")
    parser.add_argument("--output", type=Path, default=Path("out/cubic_crossing"))
    parser.add_argument("--finished", action="store_true", help="run nothing")
    parser.add_argument("--keep", action="store_true", help=f"write the moments to {KEPT.name}")
    parser.add_argument("--twist", type=float, help="of all sizes, in turns")
    options = parser.parse_args()
    own_twists = options.twist is None
    output = options.output if own_twists else options.output / f"twist_{options.twist:g}"
    if options.keep and not own_twists:
        parser.error("--keep is for each size's own twist")
    if not options.finished:
        done = {one[:2] for one in known(output, own_twists)}
        for point in itertools.product(sorted(options.lengths), options.T):
            if point not in done:
                run(output, *point, options.effort, options.twist)
    moments = known(output, own_twists)
    if options.keep:
        lines = [json.dumps([n, T, x.round(6).tolist()]) for n, T, x in moments]
        KEPT.write_text("\n".join(lines) + "\n")
    sizes: dict[int, list[Moments]] = {}
    for one in moments:
        sizes.setdefault(one.length, []).append(one)
    output.mkdir(parents=True, exist_ok=True)
    analyse(sizes, output)


if __name__ == "__main__":
    main()
