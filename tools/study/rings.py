"""How many spins an expansion of log W has to follow: rings of propagators, fitted to exact forces.

    python tools/study/rings.py [--length 8] [--J 1] [--mu 0] [--T 0.05] [--orders 4 6 8 12 16]

log W is a sum over closed lines that scatter from spins. The table says what acceptance a model
reaches that has all lines of up to so many spins exactly, with free coefficients, beside couplings
between pairs: traces of powers of g (S.sigma) at three imaginary frequencies, for

    free     g = 1 / (i w + mu - h_0), the hopping alone
    massive  lines of bonds, (h - mu)^2 + w^2 = D + V, D = w^2 + J^2/4 + (h_0 - mu)^2
    dressed  g between different sites in the coherent-potential approximation of random spins,
             times what one spin scatters there

and the largest modulus of an eigenvalue of g (S.sigma) at the lowest frequency: below 1 the series
converges. Fits use forces alone, errors and acceptances (erfc(s/2), s^2 the variance) are those of
log W in other chains.
"""

import argparse
import math

import numpy as np
import torch
from exact_samples import add_point, ensemble_of, exact_data
from rich.console import Console
from rich.table import Table
from torch import Tensor

from hpcslmc.effective import Architecture, Physics
from hpcslmc.effective.determinants import Determinants
from hpcslmc.effective.model import ForceFitted
from hpcslmc.effective.options import DeterminantOptions
from hpcslmc.learning.least_squares import fit_to_forces
from hpcslmc.parallel.hardware import prepare_process
from hpcslmc.parallel.world import World
from hpcslmc.physics.hamiltonian import Hamiltonian, spin_blocks
from hpcslmc.physics.lattice import Lattice

FREQUENCIES = np.array([1.2, 3.0, 9.0])
KINDS = ("free", "massive", "dressed")
TOGETHER = 16


class Rings(ForceFitted):
    """Pairs of spins, and traces of even powers of what an electron goes through between spins."""

    def __init__(self, lattice: Lattice, pairs: Determinants, kind: str, order: int) -> None:
        terms = len(FREQUENCIES) * (order // 2) * 2 if order else 0
        super().__init__(lattice, pairs.architecture, len(pairs.architecture.shells) + terms)
        self.register_buffer("guiding", torch.zeros_like(pairs.guiding), persistent=False)
        self.pairs, self.kind, self.order = pairs, kind, order
        physics = pairs.architecture.physics
        self.hamiltonian = physics.ensemble(lattice).hamiltonian
        self.unit_spins = Hamiltonian(lattice, 0.0, 2.0)
        self.levels, self.waves = np.linalg.eigh(self.hamiltonian.static[::2, ::2].toarray().real)
        self.lines = [self._line(w * math.pi / physics.electrons.beta) for w in FREQUENCIES]

    def _function(self, values: np.ndarray) -> Tensor:
        """A function of the hopping, for either spin, from its values at the levels."""
        matrix = torch.as_tensor((self.waves * values) @ self.waves.T)
        return torch.kron(matrix, torch.eye(2)).to(torch.complex128)

    def _line(self, frequency: float) -> tuple[Tensor, Tensor]:
        """What comes before a spin, and its bond to the next; g and 1/2 where there are none."""
        physics = self.architecture.physics
        levels = self.levels - physics.electrons.mu
        half = self._function(0.5 * np.ones_like(levels))
        if self.kind == "massive":
            mass = frequency**2 + 0.25 * physics.J**2 + levels**2
            return 0.5 * physics.J * self._function(1.0 / mass), self._function(levels)
        if self.kind == "free":
            return 0.5 * physics.J * self._function(1.0 / (1j * frequency - levels)), half
        (medium,) = physics.levels_among_spins(np.array([frequency]))
        green = self._function(1.0 / (medium - self.levels))
        local = complex(green[0, 0])
        # what a spin adds to the effective medium, V - Sigma, scatters repeatedly on its site
        sigma = 1j * frequency + physics.electrons.mu - medium
        adds = 0.5 * physics.J * np.array([1.0, -1.0]) - sigma
        up, down = adds / (1.0 - adds * local)
        return 0.5 * (up - down) * (green - torch.diag(green.diagonal())), half

    def between_spins(self, spins: Tensor, line: tuple[Tensor, Tensor]) -> Tensor:
        """The matrices M whose traces of powers are the rings, (chains, 2 sites, 2 sites)."""
        before, bond = line
        scattering = torch.zeros(len(spins), *before.shape, dtype=before.dtype)
        spin_blocks(scattering).add_(self.unit_spins.site_blocks(spins))
        return before @ (bond @ scattering + scattering @ bond)

    def correlations(self, spins: Tensor) -> Tensor:
        columns = [self.pairs.correlations(spins)[:, self.pairs.cheap_terms]]
        for line in self.lines if self.order else ():
            matrix = self.between_spins(spins, line)
            power = matrix
            for m in range(2, self.order + 1):
                power = power @ matrix
                if m % 2 == 0:
                    trace = power.diagonal(dim1=1, dim2=2).sum(1)
                    columns.append(torch.stack((trace.real, trace.imag), 1))
        return torch.cat(columns, 1)

    def correlation_forces(self, spins: Tensor) -> Tensor:
        """d tr M^m = m tr M^(m-1) dM, of which each site's block remains."""
        parts = []
        for some in spins.split(TOGETHER):
            forces = [self.pairs.correlation_forces(some)[:, self.pairs.cheap_terms]]
            for before, bond in self.lines if self.order else ():
                matrix = self.between_spins(some, (before, bond))
                power = matrix
                for m in range(2, self.order + 1):
                    if m % 2 == 0:
                        rest = m * (power @ before)
                        blocks = spin_blocks(rest @ bond + bond @ rest)
                        halves = blocks + blocks.mH, (blocks - blocks.mH) / 1j
                        both = [self.unit_spins.site_forces(half, 0.5) for half in halves]
                        forces.append(torch.stack(both, 1))
                    power = power @ matrix
            parts.append(torch.cat(forces, 1))
        return torch.cat(parts)

    @property
    def selections(self) -> list[list[np.ndarray]]:
        return [[np.arange(len(self.couplings))]]

    @property
    def wanted_acceptances(self) -> list[float]:
        return [1.0]

    @property
    def cheap_terms(self) -> np.ndarray:
        return np.arange(len(self.guiding))

    @property
    def chosen_in_words(self) -> str:
        return f"rings of up to {self.order} spins"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_point(parser, 8)
    parser.add_argument("--orders", type=int, nargs="+", default=[4, 6, 8, 12, 16])
    options = parser.parse_args()
    prepare_process()
    ensemble = ensemble_of(options)
    lattice = ensemble.hamiltonian.lattice
    data, *_ = exact_data(ensemble, chains=25, configurations=40)
    training, validation = (
        data.spread(data.train_chains, 5),
        data.spread(data.validation_chains, 40),
    )
    given = DeterminantOptions(frequencies=(1.0,)).settings(lattice)
    pairs = Determinants(lattice, Architecture("determinants", given, Physics.of(ensemble)))
    table = Table("lines", "|eigenvalue|", "pairs alone", *(f"order {n}" for n in options.orders))
    table.title = (
        f"{options.length}x{options.length}, J = {options.J:g}, mu = {options.mu:g}, "
        f"T = {options.T:g}, {len(training[0])} configurations: MSE/N; acceptance"
    )
    for kind in KINDS:
        cells = []
        for order in (0, *options.orders):
            model = Rings(lattice, pairs, kind, order)
            found = fit_to_forces(model, [(model, training)], validation, World())
            cells.append(f"{found.mse / lattice.sites:.1e}; {found.acceptance:.3f}")
        matrices = model.between_spins(validation[0][:8], model.lines[0])
        radius = torch.linalg.eigvals(matrices).abs().amax(1).mean().item()
        table.add_row(kind, f"{radius:.2f}", *cells)
        print(f"{kind}: done", flush=True)
    Console(width=140, force_terminal=False).print(table)


if __name__ == "__main__":
    main()
