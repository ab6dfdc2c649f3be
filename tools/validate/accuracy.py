"""Error of every exact weight against dense diagonalisation, over lattices, couplings, fillings and
temperatures.

    python tools/validate/accuracy.py [--quick] [--lattices 6x6 4x10]
    mpirun -n 2 python tools/validate/accuracy.py [--quick]    # both ranks share every weight

Free spins, the ferromagnet and a Neel state (degenerate spectra), and spins thermalised by exact
HMC at each J and temperature (mu = 0), for J = 0 .. 16, mu = -1.5, 0, 3 and beta = 1 .. 400. One
LAPACK decomposition per (spins, J) is the reference at every mu and beta. The larger lattices get
fewer values; the lines above the table say which. Prints the largest errors and where they are;
exit code 1 if log W, a component of a force or the energy per site is off by more than 1e-8.

Beyond 32x32 only log W of the two ordered states is compared, whose eigenvalues are known; these
rows are shown and not judged. Log W is 10^7 there, and its rounding alone comes near the bound.
"""

import argparse
import math
import sys
from dataclasses import dataclass, field

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from hpcslmc.cli.progress import Progress
from hpcslmc.errors import UserError
from hpcslmc.parallel.hardware import prepare_process
from hpcslmc.parallel.world import MPIWorld, World
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice
from hpcslmc.sampling import HMC
from hpcslmc.streams import Stream
from hpcslmc.weight import make_weight
from hpcslmc.weight.diagonalise import thermodynamics
from hpcslmc.weight.distributed import Distributed

BOUND = 1e-8
LARGEST_DENSE = 32 * 32
METHODS = ("blocks", "matsubara", "scalapack")
MUS = (0.0, -1.5, 3.0)


@dataclass(frozen=True)
class Plan:
    """What is tried on one lattice.

    Attributes
    ----------
    lattice : Lattice
    couplings, mus, betas : tuple of float
        Values of J, mu and beta, all with all.
    ordered : tuple of str
        States of ``fixed_spins`` for every J; at J = 0 spins do not matter and one is enough.
    thermal : tuple of (J, beta)
        Where spins are thermalised too; everywhere but at J = 0 if None.
    """

    lattice: Lattice
    couplings: tuple[float, ...] = (0.0, 0.5, 1.0, 4.0, 16.0)
    mus: tuple[float, ...] = MUS
    betas: tuple[float, ...] = (1.0, 5.0, 20.0, 100.0, 400.0)
    ordered: tuple[str, ...] = ("free", "ferromagnet", "Neel")
    thermal: tuple[tuple[float, float], ...] | None = None

    @classmethod
    def of(cls, shape: tuple[int, int], quick: bool) -> "Plan":
        """Everything on small lattices, less where one decomposition takes seconds, ordered states
        where none is possible.
        """
        lattice = Lattice(shape)
        if lattice.sites > LARGEST_DENSE:
            return cls(
                lattice, (1.0, 4.0, 16.0), (0.0, 3.0), (1.0, 400.0), ("ferromagnet", "Neel"), ()
            )
        if quick:
            return cls(
                lattice,
                (0.0, 1.0, 16.0),
                (0.0, 3.0),
                (1.0, 20.0, 400.0),
                thermal=((1.0, 20.0), (16.0, 400.0)),
            )
        if lattice.sites > 600:
            return cls(
                lattice,
                (1.0, 4.0, 16.0),
                (0.0, 3.0),
                (1.0, 20.0, 400.0),
                thermal=((1.0, 20.0), (16.0, 400.0)),
            )
        if lattice.sites > 300:
            return cls(
                lattice,
                (0.0, 1.0, 4.0, 16.0),
                thermal=((1.0, 20.0), (1.0, 400.0), (16.0, 20.0), (16.0, 400.0)),
            )
        return cls(lattice)

    @property
    def dense(self) -> bool:
        """Whether the reference is a dense diagonalisation."""
        return self.lattice.sites <= LARGEST_DENSE

    def thermalised(self, J: float) -> tuple[float, ...]:
        """Inverse temperatures, ascending, of the thermalised spins at J."""
        if self.thermal is None:
            return self.betas if J else ()
        return tuple(beta for coupling, beta in self.thermal if coupling == J)

    @property
    def thinned(self) -> str:
        """What the lattice has less than others, in words."""
        shape = "x".join(map(str, self.lattice.shape))
        thermal = (
            f"; thermalised at (J, beta) {' '.join(f'({J:g}, {b:g})' for J, b in self.thermal)}"
            if self.thermal
            else ""
        )
        return (
            f"{shape}: J {_list(self.couplings)}; mu {_list(self.mus)}; beta {_list(self.betas)}; "
            f"spins {', '.join(self.ordered)}{thermal}"
        )


def _shape(name: str) -> tuple[int, int]:
    x, y = map(int, name.split("x"))
    return x, y


def _list(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of one h(S), and where they come from LAPACK local spins: log W and forces at
    every mu and beta.

    Attributes
    ----------
    hamiltonian : Hamiltonian
    levels : (2 sites,) float64
    local : (sites, 3, 2 sites) float64 or None
        <sigma_i> in every eigenstate.
    """

    hamiltonian: Hamiltonian
    levels: Tensor
    local: Tensor | None = None

    @classmethod
    def of(cls, hamiltonian: Hamiltonian, spins: Tensor) -> "Spectrum":
        """By LAPACK, of spins (sites, 3)."""
        levels, states = torch.linalg.eigh(hamiltonian.dense(spins[None])[0])
        up, down = states[0::2], states[1::2]
        flip = 2.0 * up.conj() * down
        return cls(
            hamiltonian,
            levels,
            torch.stack((flip.real, flip.imag, up.abs().square() - down.abs().square()), 1),
        )

    @classmethod
    def of_order(cls, hamiltonian: Hamiltonian, kind: str) -> "Spectrum":
        """From the free bands e.

        e +- J/2 of the ferromagnet, +-sqrt(e^2 + J^2/4) of the Neel state.
        """
        x, y = (
            torch.cos(2.0 * math.pi * torch.arange(length, dtype=torch.float64) / length)
            for length in hamiltonian.lattice.shape
        )
        bands, half = (
            -2.0 * hamiltonian.couplings.hops[0].amplitude * (x[:, None] + y).flatten(),
            0.5 * hamiltonian.couplings.J[0],
        )
        upper, lower = (
            (bands + half, bands - half)
            if kind == "ferromagnet"
            else ((r := (bands**2 + half**2).sqrt()), -r)
        )
        return cls(hamiltonian, torch.cat((upper, lower)))

    def log_weight(self, beta: float, mu: float) -> float:
        return float(
            thermodynamics(self.levels, beta, mu, self.hamiltonian.lattice.sites).log_weight
        )

    def energy(self, beta: float, mu: float) -> float:
        return float(thermodynamics(self.levels, beta, mu, self.hamiltonian.lattice.sites).energy)

    def forces(self, beta: float, mu: float) -> Tensor | None:
        """(sites, 3), d log W / d S_i = -beta (J/2) sum_n f(E_n) <sigma_i>_n."""
        if self.local is None:
            return None
        return (
            -0.5
            * beta
            * self.hamiltonian.couplings.J[0]
            * (self.local @ torch.special.expit(-beta * (self.levels - mu)))
        )


@dataclass
class Worst:
    """The largest error so far, and where it is."""

    error: float = -1.0
    where: str = ""

    def add(self, error: float, where: str) -> None:
        if not error <= self.error:  # a NaN is the largest error of all, and stays
            self.error, self.where = (math.inf if math.isnan(error) else error), where

    def cells(self) -> tuple[str, str]:
        return (f"{self.error:.1e}", self.where) if self.error >= 0.0 else ("", "")


@dataclass
class Record:
    """Errors of one method on one lattice."""

    cases: int = 0
    refused: int = 0
    log_weight: Worst = field(default_factory=Worst)
    forces: Worst = field(default_factory=Worst)
    energy: Worst = field(default_factory=Worst)


def fixed_spins(kind: str, lattice: Lattice) -> Tensor:
    """(sites, 3), free spins or an ordered state (Neel.

    Stripes or a fault where the lattice does not fit it).
    """
    if kind == "free":
        return Stream(1, torch.arange(1), "accuracy").directions(lattice.sites)[0]
    spins = torch.zeros(lattice.sites, 3, dtype=torch.float64)
    spins[:, 2] = 1.0 if kind == "ferromagnet" else torch.as_tensor(lattice.staggered_sign)
    return spins


def thermal_spins(
    hamiltonian: Hamiltonian, betas: tuple[float, ...], group: World
) -> dict[float, Tensor]:
    """(sites, 3) at each beta, by short exact HMC at mu = 0, cooled from one temperature to the
    next.
    """
    found, lattice = {}, hamiltonian.lattice
    spins = fixed_spins("free", lattice)[None]
    for beta in betas:
        weight = make_weight("blocks", Ensemble(hamiltonian, beta, 0.0), group)
        step = 0.5 / math.sqrt(1.0 + beta)
        move = HMC(weight, Stream(1, torch.arange(1), f"beta {beta}"), 6.0 * step, step)
        evaluation = move.evaluate(spins)
        for _ in range(8 if lattice.sites <= 300 else 3):
            result = move.move(spins, evaluation)
            spins, evaluation = result.spins, result.evaluation
            move.tune(result.tuning[0].tolist())
        found[beta] = torch.as_tensor(group.broadcast(spins[0].numpy()))
    return found


def compare(
    plan: Plan, J: float, records: dict[str, Record], group: World, progress: "Steps"
) -> None:
    """All methods at one J on one lattice, into the records. Collective over the group."""
    hamiltonian = Hamiltonian(plan.lattice, 1.0, J)
    states = {
        kind: fixed_spins(kind, plan.lattice) for kind in (plan.ordered if J else plan.ordered[:1])
    }
    thermal = thermal_spins(hamiltonian, plan.thermalised(J), group)
    states |= {f"thermal at beta={beta:g}": spins for beta, spins in thermal.items()}
    spins, names = torch.stack(list(states.values())), list(states)
    spectra = []
    if group.is_root:
        spectra = [
            Spectrum.of(hamiltonian, s) if plan.dense else Spectrum.of_order(hamiltonian, n)
            for n, s in states.items()
        ]
    levels = eigenvalues(hamiltonian, spins, group) if "scalapack" in records else None
    for beta in plan.betas:
        for mu in plan.mus:
            exact = [
                (
                    spectrum.log_weight(beta, mu),
                    spectrum.energy(beta, mu),
                    spectrum.forces(beta, mu),
                )
                for spectrum in spectra
            ]
            where = [f"J={J:g} mu={mu:g} beta={beta:g} {name}" for name in names]
            for method, record in records.items():
                found = evaluate(method, hamiltonian, beta, mu, spins, levels, plan.dense, group)
                record.refused += len(spins) if found is None else 0
                if found is not None and group.is_root:
                    enter(record, found, exact, where)
            progress.step()


def evaluate(
    method: str,
    hamiltonian: Hamiltonian,
    beta: float,
    mu: float,
    spins: Tensor,
    levels: Tensor | None,
    forces: bool,
    group: World,
) -> tuple[Tensor, Tensor, Tensor | None] | None:
    """log W and energy (chains,) and, if wanted and there are any, forces (chains, sites, 3); None
    where the method refuses. Collective.
    """
    if method == "scalapack":
        found = thermodynamics(levels, beta, mu, hamiltonian.lattice.sites)
        return found.log_weight, found.energy, None
    try:
        weight = make_weight(method, Ensemble(hamiltonian, beta, mu), group)
    except UserError:
        return None
    found = weight.with_energy(spins, weight.evaluate(spins))
    return (
        found.log_weight,
        found.energy,
        weight.log_weight_and_forces(spins)[1] if forces else None,
    )


def eigenvalues(hamiltonian: Hamiltonian, spins: Tensor, group: World) -> Tensor:
    """(chains, 2 sites) by ScaLAPACK; beta and mu play no part. Collective over the group."""
    return Distributed(Ensemble(hamiltonian, 1.0, 0.0), group).spectrum(spins)


def enter(
    record: Record,
    found: tuple[Tensor, Tensor, Tensor | None],
    exact: list[tuple[float, float, Tensor | None]],
    where: list[str],
) -> None:
    """Errors of one weight for each of its configurations."""
    log_weight, energy, forces = found
    for n, (reference, reference_energy, reference_forces) in enumerate(exact):
        record.cases += 1
        record.log_weight.add(abs(float(log_weight[n]) - reference), where[n])
        record.energy.add(abs(float(energy[n]) - reference_energy), where[n])
        if forces is not None and reference_forces is not None:
            record.forces.add(float((forces[n] - reference_forces).abs().max()), where[n])


class Steps:
    """Progress over the weights of one lattice."""

    def __init__(self, progress: Progress, plan: Plan) -> None:
        self._progress, self._phase = progress, "x".join(map(str, plan.lattice.shape))
        self._total, self._done = len(plan.couplings) * len(plan.betas) * len(plan.mus), 0

    def step(self) -> None:
        self._done += 1
        self._progress.show(self._phase, self._done, self._total, "")


def available(group: World) -> list[str]:
    """The methods whose libraries are there; says what the others lack.

    Collective over the group.
    """
    hamiltonian, methods = Hamiltonian(Lattice((2, 2)), 1.0, 1.0), []
    for method in METHODS:
        try:
            make_weight(method, Ensemble(hamiltonian, 5.0, 0.0), group)
            methods.append(method)
        except UserError as error:
            if group.is_root:
                print(f"without {method}: {error}")
    return methods


def main() -> int:
    """Print the table; 1 if an error is beyond the bound."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="fewer and smaller lattices, fewer values: about a minute",
    )
    parser.add_argument("--lattices", nargs="+", metavar="LxL", help="these lattices only")
    options = parser.parse_args()
    group = MPIWorld()
    prepare_process()
    default = ["2x6", "3x5", "6x6", "8x8", "4x10", "12x12"]
    names = options.lattices or (
        default
        if options.quick
        else [*default, "6x16", "16x16", "24x24", "32x32", "48x48", "64x64"]
    )
    plans = {name: Plan.of(_shape(name), options.quick) for name in names}
    methods, progress = available(group), Progress(group.is_root, 10.0)
    table = Table(
        "method",
        "lattice",
        "cases",
        "refused",
        "log W",
        "at",
        "forces",
        "at",
        "energy",
        "at",
        title=(
            f"Largest differences from dense diagonalisation (bound {BOUND:g}), {group.size} "
            "rank(s) a group"
        ),
    )
    found: dict[str, list[tuple[str, Record]]] = {method: [] for method in methods}
    for name, plan in plans.items():
        records = {method: Record() for method in methods if plan.dense or method != "scalapack"}
        steps = Steps(progress, plan)
        for J in plan.couplings:
            compare(plan, J, records, group, steps)
        for method, record in records.items():
            found[method].append((name, record))
    progress.close()
    if not group.is_root:
        return 0
    for plan in plans.values():
        if plan.thermal is not None:
            print(plan.thinned)
    failed = False
    for method, rows in found.items():
        for name, record in rows:
            table.add_row(
                method,
                name,
                str(record.cases),
                str(record.refused),
                *record.log_weight.cells(),
                *record.forces.cells(),
                *record.energy.cells(),
            )
            failed |= (
                plans[name].dense
                and max(record.log_weight.error, record.forces.error, record.energy.error) > BOUND
            )
        table.add_section()
    Console(width=190, force_terminal=False).print(table)
    print(
        f"{sum(record.cases for rows in found.values() for _, record in rows)} comparisons, "
        + (f"some up to 32x32 beyond {BOUND:g}" if failed else f"all up to 32x32 within {BOUND:g}")
    )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
