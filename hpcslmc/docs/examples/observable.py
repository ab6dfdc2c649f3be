"""An observable of one's own: the nematic order of the bonds, and a run that measures it."""

import torch

from hpcslmc import random_spins, run_job
from hpcslmc.lattice import Lattice
from hpcslmc.measure.observables import Observable
from hpcslmc.measure.registry import OBSERVABLES


class Nematicity2(Observable):
    """Square of the difference of S_i . S_j along x and along y, per site; 0 where both directions are alike."""

    name, label = "nematicity2", "(bond nematicity / N)^2"

    def measure(self, spins, evaluation):
        grid = spins.unflatten(1, self.lattice.shape)
        along_x, along_y = ((grid * grid.roll(-1, axis)).sum((1, 2, 3)) for axis in (1, 2))
        return ((along_x - along_y) / self.lattice.sites).square()


OBSERVABLES[Nematicity2.name] = Nematicity2

# stripes: alike along y, opposite along x
stripes = torch.zeros(1, 16, 3, dtype=torch.float64)
stripes[0, :, 2] = torch.tensor([1.0, -1.0]).repeat_interleave(4).repeat(2)
assert Nematicity2(Lattice((4, 4)), "cpu").measure(stripes, None) == 4.0
assert Nematicity2(Lattice((4, 4)), "cpu").measure(random_spins(1000, Lattice((4, 4))), None).mean() < 0.1

results = run_job({"lattice": {"shape": [4, 4]}, "ensemble": {"temperature": 0.1}, "thermalisation": {"moves": 10},
                   "sampling": {"method": "exact", "chains": 4, "samples": 20, "moves": 1}})
print("nematicity:", results.summary.of("nematicity2"), "+-", results.summary.of("nematicity2", "error"))
