"""An observable of one's own: the nematic order of the bonds."""

import torch

from hpcslmc import Lattice, run_job
from hpcslmc.measure.observables import Observable
from hpcslmc.measure.registry import OBSERVABLES


class Nematicity2(Observable):
    """Squared difference per site of S_i . S_j along x and along y; 0 where both are alike."""

    name, label = "nematicity2", "(bond nematicity / N)^2"

    def measure(self, spins, evaluation):
        grid = spins.unflatten(1, self.lattice.shape)
        along_x, along_y = ((grid * grid.roll(-1, axis)).sum((1, 2, 3)) for axis in (1, 2))
        return ((along_x - along_y) / self.lattice.sites).square()


OBSERVABLES[Nematicity2.name] = Nematicity2

if __name__ == "__main__":
    stripes = torch.zeros(1, 4, 4, 3, dtype=torch.float64)
    stripes[:, ::2, :, 2], stripes[:, 1::2, :, 2] = 1.0, -1.0  # alike along y, opposite along x
    assert Nematicity2(Lattice((4, 4)), "cpu").measure(stripes.flatten(1, 2), None) == 4.0
    job = {"lattice": {"shape": [4, 4]}, "ensemble": {"temperature": 0.1}}
    job |= {"sampling": {"method": "exact", "chains": 4, "samples": 20, "bin_size": 2}}
    job |= {"thermalisation": {"moves": 10}, "measure": {"nematicity2": 2}}
    summary = run_job(job).summary
    print("nematicity:", summary.of("nematicity2"), "+-", summary.of("nematicity2", "error"))
