"""A weight method of one's own: eigenvalues by torch, forces by automatic differentiation."""

from dataclasses import replace

import torch

from hpcslmc import Hamiltonian, Lattice, exact_weight, random_spins
from hpcslmc.weight import WEIGHTS
from hpcslmc.weight.diagonalise import thermodynamics
from hpcslmc.weight.method import ExactWeight


class Autograd(ExactWeight):
    """log W from all eigenvalues of h(S); its gradient by differentiating them."""

    def evaluate(self, spins, forces=False):
        spins = spins.detach().requires_grad_(forces)
        levels = torch.linalg.eigvalsh(self.hamiltonian.dense(spins))
        gradient = torch.autograd.grad(self.sums(levels).log_weight.sum(), spins)[0] if forces else None
        return replace(self.sums(levels.detach()), forces=gradient)

    def sums(self, levels):
        return thermodynamics(levels, self.beta, self.mu, self.hamiltonian.lattice.sites)


WEIGHTS["autograd"] = Autograd

if __name__ == "__main__":
    hamiltonian, spins = Hamiltonian(Lattice((4, 4)), t=1.0, J=1.5), random_spins(3, Lattice((4, 4)))
    mine, theirs = (exact_weight(hamiltonian, 0.1, mu=-0.3, method=name).log_weight_and_forces(spins) for name in ("autograd", "blocks"))
    assert all(torch.allclose(a, b, rtol=0.0, atol=1e-8) for a, b in zip(mine, theirs))
    print("largest difference of the forces:", float((mine[1] - theirs[1]).abs().max()))
