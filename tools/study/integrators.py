"""Acceptance of trajectories by the number of their evaluations, for three ways to step.

    python tools/study/integrators.py [--length 16] [--J 1] [--mu 0] [--T 0.05]
    [--trajectory 1.75] [--evaluations 4 5 6 7 8 10 12]

Leapfrog, steps of two evaluations with kicks of 0.193, 0.614 and 0.193 (Omelyan), and the program's
leapfrog with corrected ends, under the cheapest model that a job with defaults alone learns, with
its guide and without. All start from that job's spins and have the same momenta. The acceptance is
the mean chance of it; the error is that over chains. A dash: so many evaluations are not possible.
"""

import argparse

import torch
from exact_samples import add_point
from rich.console import Console
from rich.table import Table
from torch import Tensor

from hpcslmc.analysis.statistics import bracket
from hpcslmc.job.load import make_job
from hpcslmc.parallel.hardware import prepare_process
from hpcslmc.sampling import HMC, SLMC, Move
from hpcslmc.sampling.hmc import LEAPFROG, Shares, Tuning, corrected_leapfrog
from hpcslmc.simulation.build import required
from hpcslmc.simulation.simulation import Simulation
from hpcslmc.streams import Stream

CHAINS, SAMPLES, TRAJECTORIES = 32, 10, 4
EDGE = 0.1931833275037836


class Leapfrog(HMC):
    """Trajectories of leapfrog steps."""

    evaluations: int

    @property
    def schedule(self) -> list[Shares]:
        return [LEAPFROG] * self.evaluations


class TwoEvaluations(Leapfrog):
    """Trajectories of steps of two evaluations."""

    @property
    def schedule(self) -> list[Shares]:
        first = Shares(2.0 * EDGE, 1.0, 1.0 - 2.0 * EDGE)
        return [first, Shares(*reversed(first))] * (self.evaluations // 2)


class CorrectedEnds(Leapfrog):
    """The program's trajectories."""

    @property
    def schedule(self) -> list[Shares]:
        return corrected_leapfrog(self.evaluations)


def learned_moves(options: argparse.Namespace) -> tuple[HMC, Tensor]:
    """The innermost moves of a job with defaults alone, and where its chains end."""
    job = {
        "lattice": {"shape": [options.length] * 2},
        "hamiltonian": {"J": options.J, "mu": options.mu},
        "ensemble": {"temperature": options.T},
        "sampling": {"chains": CHAINS, "samples": SAMPLES},
    }
    simulation = Simulation(make_job(job))
    simulation.run()
    move: Move = required(simulation.rungs[0].learning).slmc
    while isinstance(move, SLMC):
        move = move.inner
    assert isinstance(move, HMC)
    return move, simulation.rungs[0].chains.spins


def acceptance(move: HMC, spins: Tensor) -> str:
    """Mean chance that trajectories are accepted, and its error."""
    evaluation, likely = move.evaluate(spins), Tuning._fields.index("likely")
    found = [move.move(spins, evaluation).tuning[:, likely] for _ in range(TRAJECTORIES)]
    of = torch.stack(found).mean(0)
    return bracket(float(of.mean()), float(of.std()) / CHAINS**0.5)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_point(parser, length=16)
    parser.add_argument("--trajectory", type=float, default=1.75)
    parser.add_argument("--evaluations", type=int, nargs="+", default=[4, 5, 6, 7, 8, 10, 12])
    options = parser.parse_args()
    prepare_process()
    own, spins = learned_moves(options)
    kinds = {
        "leapfrog": Leapfrog,
        "two evaluations a step": TwoEvaluations,
        "corrected ends": CorrectedEnds,
    }
    for guide, title in ((own.guide, "with the guide"), (None, "without")):
        table = Table("evaluations", *kinds, title=f"Acceptance {title}")
        for count in options.evaluations:
            cells = []
            for kind in kinds.values():
                stream = Stream(1, torch.arange(CHAINS), "trajectory")
                move = kind(own.density, stream, options.trajectory, guide=guide)
                move.evaluations = count
                possible = count % 2 == 0 or kind is not TwoEvaluations
                cells.append(acceptance(move, spins) if possible else "-")
            table.add_row(str(count), *cells)
        Console().print(table)


if __name__ == "__main__":
    main()
