"""A function of one's own: the structure factor from (0,0) to (pi,pi)."""

import numpy as np

from hpcslmc import run_job
from hpcslmc.measure.grid import Axis
from hpcslmc.measure.registry import PROFILES
from hpcslmc.measure.structure import StructureFactor


class Diagonal(StructureFactor):
    """S(q, q) of a square lattice, q from 0 to pi."""

    name, label = "diagonal", "S(q,q)"

    def __init__(self, lattice, every):
        super().__init__(lattice, every)
        points = lattice.shape[0] // 2 + 1
        self.grid = {"q": Axis(2.0 * np.pi * np.arange(points) / lattice.shape[0], "1/a")}

    def measure(self, spins, evaluation):
        zone = super().measure(spins, evaluation)  # (chains, qx, qy)
        return zone.diagonal(dim1=1, dim2=2)[:, : len(self.grid["q"].values)]


PROFILES[Diagonal.name] = Diagonal

if __name__ == "__main__":
    job = {"lattice": {"shape": [4, 4]}, "ensemble": {"temperature": 0.1}}
    job |= {"sampling": {"method": "exact", "chains": 4, "samples": 20}, "measure": {"diagonal": 2}}
    found = run_job(job).profiles["diagonal"]
    print("S(q,q):", found.mean.round(2), "+-", found.error.round(2))
