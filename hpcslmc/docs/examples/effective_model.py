"""An effective model of one's own: bilinear and biquadratic bonds between nearest neighbours."""

import torch

from hpcslmc import run_job
from hpcslmc.effective import MODELS, EffectiveModel


class Biquadratic(EffectiveModel):
    """log W_eff = K1 sum_<ij> S_i.S_j + K2 sum_<ij> (S_i.S_j)^2 + N constant."""

    def __init__(self, lattice, architecture):
        super().__init__(lattice, architecture, couplings=2)
        self.register_buffer("neighbours", torch.as_tensor(lattice.neighbours[:, :2]), persistent=False)  # +x, +y: each bond once

    def correlations(self, spins):
        bonds = (spins[:, :, None] * spins[:, self.neighbours]).sum(-1).flatten(1)
        return torch.stack((bonds.sum(1), bonds.square().sum(1)), 1)


MODELS["biquadratic"] = Biquadratic

if __name__ == "__main__":
    results = run_job({"lattice": {"shape": [4, 4]}, "ensemble": {"temperature": 0.2}, "effective": {"model": "biquadratic", "shells": 1},
                       "thermalisation": {"moves": 20}, "learning": {"rounds": 1, "configurations": 20, "steps": 100},
                       "sampling": {"chains": 16, "samples": 50}})
    print("acceptance:", results.summary.of("acceptance"), "+-", results.summary.of("acceptance", "error"))
    assert results.summary.of("acceptance") > 0.5
