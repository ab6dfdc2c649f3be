"""An effective model of one's own: bilinear and biquadratic bonds, fitted to exact weights, proposing for the exact test."""

import torch

from hpcslmc import Hamiltonian, Lattice, exact_weight, random_spins
from hpcslmc.effective import MODELS, Architecture, EffectiveModel, FreeElectrons, make_model
from hpcslmc.sampling import HMC, SLMC
from hpcslmc.streams import Stream


class Biquadratic(EffectiveModel):
    """log W_eff = K1 sum_<ij> S_i.S_j + K2 sum_<ij> (S_i.S_j)^2 + N constant."""

    def __init__(self, lattice, architecture):
        super().__init__(lattice, architecture, couplings=2)
        self.shape = lattice.shape

    def correlations(self, spins):
        grid = spins.unflatten(1, self.shape)
        bonds = torch.stack([(grid * grid.roll(-1, axis)).sum(-1) for axis in (1, 2)], -1).flatten(1)
        return torch.stack((bonds.sum(1), bonds.square().sum(1)), 1)

    def forward(self, spins):
        return self.correlations(spins) @ self.couplings + self.sites * self.constant


MODELS["biquadratic"] = Biquadratic

lattice, temperature = Lattice((4, 4)), 0.2
weight = exact_weight(Hamiltonian(lattice, t=1.0, J=1.0), temperature)
model = make_model(Architecture("biquadratic", (1,), 0, 0, FreeElectrons(1.0, 0.0, 1.0 / temperature)), lattice)
spins = random_spins(300, lattice)
columns = torch.cat((model.correlations(spins), torch.full((300, 1), float(lattice.sites), dtype=torch.float64)), 1)
*couplings, constant = torch.linalg.lstsq(columns, weight.log_weight(spins)).solution
model.load_state_dict({"couplings": torch.stack(couplings), "constant": constant})

chains = torch.arange(300)
slmc = SLMC(weight, HMC(model, Stream(1, chains, "inner"), 1.5, 0.2), Stream(1, chains, "test"), inner_moves=4)
step = slmc.move(spins, weight.evaluate(spins))
print("K1, K2:", model.couplings.tolist(), " acceptance:", float(step.acceptance.mean()))
assert step.acceptance.mean() > 0.5
