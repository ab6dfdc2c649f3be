"""An effective model of one's own: powers of S_i.S_j between nearest neighbours."""

import torch

from hpcslmc import run_job
from hpcslmc.effective import MODELS, EffectiveModel, Options


class Polynomial(EffectiveModel):
    """log W_eff = sum_n K_n sum_<ij> (S_i.S_j)^n + N constant."""

    class Options(Options):
        degree: int = 2

    def __init__(self, lattice, architecture):
        super().__init__(lattice, architecture, couplings=architecture.degree)
        bonds = torch.as_tensor(lattice.neighbours[:, :2])  # +x, +y: each bond once
        self.register_buffer("neighbours", bonds, persistent=False)

    def correlations(self, spins):
        bonds = (spins[:, :, None] * spins[:, self.neighbours]).sum(-1).flatten(1)
        return torch.stack([bonds.pow(n + 1).sum(1) for n in range(self.architecture.degree)], 1)


MODELS["polynomial"] = Polynomial

if __name__ == "__main__":
    job = {"lattice": {"shape": [4, 4]}, "ensemble": {"temperature": 0.2}}
    job |= {"effective": {"model": "polynomial", "degree": 3}, "thermalisation": {"moves": 20}}
    job |= {"learning": {"rounds": 1, "steps": 100}, "sampling": {"chains": 16, "samples": 50}}
    print("acceptance:", acceptance := run_job(job).summary.of("acceptance"))
    assert acceptance > 0.5
