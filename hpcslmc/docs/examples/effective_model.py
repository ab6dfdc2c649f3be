"""An effective model of one's own: bilinear and biquadratic bonds between nearest neighbours."""

import torch

from hpcslmc import run_job
from hpcslmc.effective import MODELS, EffectiveModel


class Biquadratic(EffectiveModel):
    """log W_eff = K1 sum_<ij> S_i.S_j + K2 sum_<ij> (S_i.S_j)^2 + N constant."""

    def __init__(self, lattice, architecture):
        super().__init__(lattice, architecture, couplings=2)
        bonds = torch.as_tensor(lattice.neighbours[:, :2])  # +x, +y: each bond once
        self.register_buffer("neighbours", bonds, persistent=False)

    def correlations(self, spins):
        bonds = (spins[:, :, None] * spins[:, self.neighbours]).sum(-1).flatten(1)
        return torch.stack((bonds.sum(1), bonds.square().sum(1)), 1)


MODELS["biquadratic"] = Biquadratic

if __name__ == "__main__":
    job = {"lattice": {"shape": [4, 4]}, "ensemble": {"temperature": 0.2}}
    job |= {"effective": {"model": "biquadratic", "shells": 1}, "thermalisation": {"moves": 20}}
    job |= {"learning": {"rounds": 1, "configurations": 20, "steps": 100}}
    summary = run_job(job | {"sampling": {"chains": 16, "samples": 50}}).summary
    print("acceptance:", summary.of("acceptance"), "+-", summary.of("acceptance", "error"))
    assert summary.of("acceptance") > 0.5
