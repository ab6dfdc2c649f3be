"""Acceptance of trajectories by the number of their evaluations: leapfrog against the program's.

    python tools/study/integrators.py [--length 16] [--J 1] [--mu 0] [--T 0.05]
    [--trajectory 1.5] [--evaluations 2 4 6 8 12]

Both start from the same spins, which exact moves have thermalised, and with the same momenta. The
acceptance is the mean chance of it, over all chains; so is its error.
"""

import argparse

import torch
from exact_samples import add_point, ensemble_of, exact_data, exact_weight
from rich.console import Console
from rich.table import Table

from hpcslmc.analysis.statistics import bracket
from hpcslmc.parallel.hardware import prepare_process
from hpcslmc.sampling import HMC
from hpcslmc.sampling.hmc import LEAPFROG, Tuning
from hpcslmc.streams import Stream

CHAINS, DRAWS = 16, 20


class Leapfrog(HMC):
    """Trajectories of leapfrog steps."""

    @property
    def steps(self) -> int:
        return max(1, round(self.length / self.step_size))

    @property
    def kicks(self) -> list[tuple[float, float]]:
        return [LEAPFROG] * self.steps


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_point(parser, length=16)
    parser.add_argument("--trajectory", type=float, default=1.5)
    parser.add_argument("--evaluations", type=int, nargs="+", default=[2, 4, 6, 8, 12])
    options = parser.parse_args()
    prepare_process()
    ensemble = ensemble_of(options)
    weight, chains = exact_weight(ensemble), torch.arange(CHAINS)
    _, _, spins, evaluation = exact_data(ensemble, CHAINS, DRAWS)
    table = Table("evaluations", "leapfrog", "two evaluations a step")
    likely = Tuning._fields.index("likely")
    for count in options.evaluations:
        found = []
        for kind in (Leapfrog, HMC):
            stream, step = Stream(1, chains, "trajectory"), options.trajectory / count
            move = kind(weight, stream, options.trajectory, step)
            of = move.move(spins, evaluation).tuning[:, likely]
            found.append(bracket(float(of.mean()), float(of.std()) / CHAINS**0.5))
        table.add_row(str(count), *found)
    Console().print(table)


if __name__ == "__main__":
    main()
