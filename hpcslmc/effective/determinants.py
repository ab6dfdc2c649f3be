"""The determinant model: few of the determinants that the exact weight is a sum of."""

import itertools
import math
from collections.abc import Hashable

import numpy as np
import torch
from torch import Tensor

from hpcslmc.density import Evaluation
from hpcslmc.effective.model import Architecture, Costs, ForceFitted
from hpcslmc.effective.momentum import Convolutions, Pairs
from hpcslmc.effective.options import DeterminantOptions
from hpcslmc.effective.shells import shell_links, shell_waves
from hpcslmc.parallel.world import World
from hpcslmc.physics.lattice import Lattice
from hpcslmc.weight.elimination import Elimination
from hpcslmc.weight.elimination_choice import make_elimination
from hpcslmc.weight.nodes import model_nodes

COSTS = {"double": Costs(1.0, 2.4), "single": Costs(0.85, 1.55)}
"""Costs of a determinant, alone and with its forces, by precision.

In units of one in double precision. Measured at 8x8 to 64x64 (tools/bench/eliminations.py).
"""
PAIRS_COST = 40.0
"""Work of a step beside its determinants, in units of one over the number of sites.

Pairs, great circles and random numbers grow as the sites, a determinant nearly as their square.
Measured at 6x6 and 16x16.
"""
ENERGY_COUNT = 5
"""Determinants that energy and density take beside those of log W, after a test."""


class Determinants(ForceFitted):
    r"""Log-determinants at few imaginary frequencies, and couplings by neighbour shell.

    .. math::
        \log W_{\rm eff} = \sum_k b_k \log\det\left(1 + \frac{(h(S) - \mu)^2}{w_k^2}\right)
            + \sum_n K_n \sum_{\langle ij \rangle_n} S_i \cdot S_j + N\,{\rm constant}

    The exact log W is such a sum over ten or more frequencies. Those far above pi T are smooth
    functions of the spins and of short range: couplings take their place, and the few that are left
    make up for the others by their coefficients. All parameters are linear, and fitted by least
    squares to exact forces. The model has the symmetry of h(S), and knows no size of the lattice.

    Parameters
    ----------
    lattice : Lattice
    architecture : Architecture
        Frequencies that there are to choose from in units of pi T, and the shells.
    group : World, optional
        Ranks that share the work of each evaluation, which is collective over them.

    Attributes
    ----------
    couplings : (frequencies + shells,) parameter
        b_k, 0 for those that are not chosen, then K_n.
    guiding : (shells,) buffer
        Couplings of the pairs alone that come closest to the exact forces, for ``guide``.
    frequencies : (frequencies,) float64
        w_k, in units of energy.

    Notes
    -----
    A determinant takes 1/K of the time of an exact evaluation by block elimination, with and
    without forces; in single precision, with forces, two thirds of that. The determinants are
    functions of the rounded spins then, off by about 1e-5. Spins that differ by rounding in double
    precision are mostly the same to them, so that trajectories are as reversible as in double
    precision. Coefficients are fitted in double precision.
    """

    Options = DeterminantOptions
    needs_symmetry = None
    shares_ranks = True
    is_close = True
    guiding: Tensor

    def __init__(
        self, lattice: Lattice, architecture: Architecture, group: World | None = None
    ) -> None:
        options = DeterminantOptions.of(architecture.settings)
        physics = architecture.physics
        links = shell_links(physics.couplings, tuple(architecture.shells))
        super().__init__(lattice, architecture, len(options.candidates) + len(links))
        self.options, self.single = options, options.precision == "single"
        self.tries = options.tries
        self.couplings.requires_grad_(False)
        self.register_buffer("guiding", torch.zeros(len(links), dtype=torch.float64))
        self.frequencies = np.array(options.candidates) * math.pi / architecture.electrons.beta
        self.group = group or World()
        convolutions = Convolutions(lattice, physics.couplings)
        waves, magnetic = shell_waves(lattice, links), physics.magnetic(lattice)
        self.pairs = Pairs(convolutions, waves, magnetic)
        self._lattice = lattice
        self._eliminations: dict[torch.dtype, Elimination] = {}
        self._chosen: tuple[int, np.ndarray, np.ndarray] | None = None

    def elimination(self, single: bool = False) -> Elimination:
        """Determinants and inverses of the electrons' matrix, on the parameters' device."""
        device, dtype = self.couplings.device, torch.complex64 if single else torch.complex128
        made = self._eliminations.get(dtype)
        if made is None or made.hamiltonian.device != device:
            ensemble = self.architecture.physics.ensemble(self._lattice, device)
            made = make_elimination(ensemble.hamiltonian, ensemble.mu, self.group, dtype)
            self._eliminations[dtype] = made
        return made

    @property
    def chosen(self) -> tuple[np.ndarray, np.ndarray]:
        """Frequencies whose coefficients are not zero, and the coefficients b_k."""
        version = self.couplings._version  # which every change of the parameters raises
        if self._chosen is None or self._chosen[0] != version:
            coefficients = self.couplings[: len(self.frequencies)].detach().cpu().numpy()
            used = np.flatnonzero(coefficients)
            self._chosen = version, self.frequencies[used], coefficients[used]
        return self._chosen[1:]

    @property
    def terms(self) -> Hashable:
        """Frequencies and shells: determinants of any precision are fitted in double."""
        return self.options.candidates, tuple(self.architecture.shells)

    def correlations(self, spins: Tensor) -> Tensor:
        """Return what the couplings multiply, (chains, couplings).

        Log-determinants at all frequencies, chosen or not, then sums over pairs by shell.
        """
        log_dets = self.elimination().log_dets(spins, self.frequencies)
        return torch.cat((2.0 * log_dets, self.pairs.sums(spins)), 1)

    def correlation_forces(self, spins: Tensor) -> Tensor:
        """Return the gradients of all correlations, (chains, couplings, sites, 3)."""
        one, elimination = np.ones(1), self.elimination()
        forces = []
        for frequency in np.split(self.frequencies, len(self.frequencies)):
            found = elimination.inverses(spins, frequency, one / frequency, one)
            forces.append(elimination.hamiltonian.site_forces(found.blocks, -2.0))
        return torch.cat((torch.stack(forces, 1), self.pairs.forces(spins)), 1)

    @property
    def selections(self) -> list[list[np.ndarray]]:
        """Sets of as many frequencies as were asked for, or of few before many, with all pairs."""
        frequencies = range(len(self.frequencies))
        return [
            [
                np.append(np.array(chosen, dtype=np.int64), self.cheap_terms)
                for chosen in itertools.combinations(frequencies, number)
            ]
            for number in self.options.numbers
        ]

    @property
    def wanted_acceptances(self) -> list[float]:
        """The acceptances that the options name, the last for all numbers beyond."""
        wanted = self.options.acceptances
        return [wanted[min(k, len(wanted) - 1)] for k in range(len(self.options.numbers))]

    @property
    def cheap_terms(self) -> np.ndarray:
        """The pairs."""
        return np.arange(len(self.frequencies), len(self.couplings))

    @property
    def chosen_in_words(self) -> str:
        """The frequencies and their coefficients, and how many the exact weight takes."""
        frequencies, coefficients = self.chosen
        unit = math.pi / self.architecture.electrons.beta
        if not len(frequencies):
            return "no determinants: couplings between the spins are close enough"
        where = ", ".join(f"{w / unit:.3g}" for w in frequencies)
        words = ", ".join(f"{b:.4g}" for b in coefficients)
        described = f"determinants at {where} pi T with coefficients {words}"
        count = self._exact_count
        return f"{described}, in place of {count}" if count else described

    @property
    def relative_costs(self) -> Costs | None:
        """Costs of evaluations in units of an exact test by block elimination."""
        count, own, each = self._exact_count, len(self.chosen[0]), COSTS[self.options.precision]
        if not count:
            return None
        pairs, unit = PAIRS_COST / self.sites, 1.0 / (count + ENERGY_COUNT)
        alone = own * each.alone + pairs / COSTS["double"].with_forces
        return Costs(alone * unit, (own * each.with_forces + pairs) * unit)

    @property
    def _exact_count(self) -> int | None:
        """Determinants that an exact log W takes, None where it is too cold for it to be so."""
        try:
            nodes = model_nodes(self.architecture.physics.ensemble(self._lattice))
        except ValueError:
            return None
        return len(nodes.weights)

    def evaluate(self, spins: Tensor, forces: bool = False) -> Evaluation:
        """Evaluate log W_eff of spins (chains, sites, 3), and with ``forces`` its gradient.

        Collective over the group.
        """
        if self.group.size == 1:
            return super().evaluate(spins, forces)
        return self._with_forces(spins) if forces else self._without_forces(spins)

    @torch.no_grad()
    def _without_forces(self, spins: Tensor) -> Evaluation:
        frequencies, coefficients = self.chosen
        elimination = self.elimination(self.single)
        log_weight = self._of_pairs(spins)
        if len(frequencies):
            log_dets = elimination.log_dets(spins, frequencies)
            log_weight += 2.0 * log_dets @ elimination.on_device(coefficients)
        return Evaluation(log_weight)

    @torch.no_grad()
    def _with_forces(self, spins: Tensor) -> Evaluation:
        frequencies, coefficients = self.chosen
        elimination = self.elimination(self.single)
        log_weight, forces = self._of_pairs(spins), self.pairs.field(self._pair_couplings, spins)
        if len(frequencies):
            of_blocks = coefficients / frequencies
            found = elimination.inverses(spins, frequencies, of_blocks, coefficients)
            log_weight += 2.0 * found.log_dets @ elimination.on_device(coefficients)
            forces += elimination.hamiltonian.site_forces(found.blocks, -2.0)
        return Evaluation(log_weight, forces)

    @torch.no_grad()
    def guide(self, spins: Tensor) -> Tensor:
        """Return forces (chains, sites, 3) of pairs alone, close to the exact ones."""
        return self.pairs.field(self.guiding, spins)

    @property
    def _pair_couplings(self) -> Tensor:
        return self.couplings[len(self.frequencies) :]

    def _of_pairs(self, spins: Tensor) -> Tensor:
        """Return log W_eff (chains,) without the determinants."""
        return self.pairs.sums(spins) @ self._pair_couplings + self.sites * self.constant
