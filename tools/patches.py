"""Exact log W that an independent sample takes, when proposals change a patch of the lattice only.

    python tools/patches.py --lengths 16 24 --models out/benchmark/16x16/SLMC_linear
    out/benchmark/24x24/SLMC_linear

J = 1, half filling, one core, for each length of the lattice and the model in the same place. A
proposal is made by the trajectories of a job's defaults under the model, in which only the sites of
a patch move: a given fraction of all, those nearest to a site that is drawn at random. Reversible,
since the patch does not depend on the spins and stays the same throughout a proposal. Every
proposal is tested by a whole exact log W; the model's own cost is left out, which favours patches.
Autocorrelation times are those of |m(pi,pi)|^2; errors are by jackknife.
"""

import argparse
from dataclasses import replace

import torch
from benchmark import independent
from rich.console import Console
from rich.table import Table
from torch import Tensor
from trajectories import series

from hpcslmc.analysis.statistics import bracket, estimate
from hpcslmc.api import learned_model
from hpcslmc.density import Evaluation
from hpcslmc.effective import EffectiveModel
from hpcslmc.job.schema import SamplingSection
from hpcslmc.parallel.hardware import limit_threads
from hpcslmc.parallel.world import World
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice
from hpcslmc.sampling import HMC, SLMC, SLMCStep
from hpcslmc.streams import Stream
from hpcslmc.weight import choose_method, make_weight


class Patches(Stream):
    """Momenta of HMC that vanish outside a patch of sites, drawn anew for every proposal."""

    def __init__(self, lattice: Lattice, fraction: float, chains: Tensor) -> None:
        super().__init__(1, chains, f"inner {fraction}")
        distance = torch.as_tensor(lattice.distance2[lattice.displacement])
        ranks = distance.argsort(dim=1, stable=True).argsort(dim=1)
        self._inside = (ranks < max(1, round(fraction * lattice.sites))).double()[..., None]
        self._centres = Stream(1, chains, f"centres {fraction}")
        self.draw()

    def draw(self) -> None:
        """Other patches."""
        self.mask = self._inside[(self._centres.uniform() * len(self._inside)).long()]

    def normal(self, *shape: int) -> Tensor:
        return super().normal(*shape) * self.mask


class Held:
    """A model whose forces vanish outside the patches."""

    def __init__(self, model: EffectiveModel, patches: Patches) -> None:
        self.model, self.patches = model, patches

    def evaluate(self, spins: Tensor, forces: bool = False) -> Evaluation:
        evaluation = self.model.evaluate(spins, forces)
        return (
            replace(evaluation, forces=evaluation.forces * self.patches.mask)
            if forces
            else evaluation
        )


class PatchedSLMC(SLMC):
    """Self-learning steps, each with patches of its own."""

    inner: HMC

    def move(self, spins: Tensor, evaluation: Evaluation) -> SLMCStep:
        self.inner.stream.draw()
        return super().move(spins, evaluation)


def table(path: str, lattice: Lattice, fractions: list[float], chains: int, samples: int) -> Table:
    """By fraction of the sites that a proposal changes."""
    model, indices = learned_model(path, lattice), torch.arange(chains)
    electrons = model.architecture.electrons
    beta, hamiltonian = electrons.beta, Hamiltonian(lattice, electrons.t, 1.0)
    weight = make_weight(
        choose_method(hamiltonian, beta, 0.0, "cpu", 1)[0], hamiltonian, beta, 0.0, World()
    )
    found = Table(
        "fraction of sites",
        "acceptance",
        "tau / tests",
        "exact log W of an independent sample",
        title=f"{path} on {lattice.shape[0]}x{lattice.shape[1]}",
    )
    spins = Stream(1, indices, "start").directions(lattice.sites)
    for k, fraction in enumerate(fractions):
        patches = Patches(lattice, fraction, indices)
        guide = model.guide and (lambda spins: model.guide(spins) * patches.mask)
        inner = HMC(Held(model, patches), patches, guide=guide)
        if k == 0:  # from a hot start to the model's own equilibrium
            _, _, spins = series(inner, spins, lattice, 0)
        slmc = PatchedSLMC(
            weight, inner, Stream(1, indices, f"test {fraction}"), SamplingSection().moves
        )
        draws, acceptance, spins = series(slmc, spins, lattice, samples)
        found.add_row(
            f"{fraction:g}",
            f"{acceptance:.3f}",
            f"{estimate(draws).tau:.1f}",
            bracket(*independent(draws, draws.size)),
        )
        print(f"{lattice.shape[0]}x{lattice.shape[1]}, patches of {fraction:g}: done", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lengths", type=int, nargs="+", required=True)
    parser.add_argument(
        "--models",
        nargs="+",
        required=True,
        metavar="PATH",
        help="learned models, or the output directories of the runs that "
        "learned them, one for each length",
    )
    parser.add_argument(
        "--fractions",
        type=float,
        nargs="+",
        default=[1.0, 0.5, 0.25, 0.1, 0.03],
        help="of the sites; the largest first",
    )
    parser.add_argument("--chains", type=int, default=16)
    parser.add_argument("--samples", type=int, default=300, help="tests of a chain")
    options = parser.parse_args()
    if len(options.models) != len(options.lengths):
        parser.error(
            f"{len(options.lengths)} lengths need as many models, not {len(options.models)}"
        )
    limit_threads()
    console = Console(width=150, force_terminal=False)
    for length, path in zip(options.lengths, options.models, strict=True):
        console.print(
            table(
                path, Lattice((length, length)), options.fractions, options.chains, options.samples
            )
        )


if __name__ == "__main__":
    main()
