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
        arguments = self.beta, self.mu, self.hamiltonian.lattice.sites
        total = thermodynamics(levels, *arguments).log_weight.sum()
        gradient = torch.autograd.grad(total, spins)[0] if forces else None
        return replace(thermodynamics(levels.detach(), *arguments), forces=gradient)


WEIGHTS["autograd"] = Autograd

if __name__ == "__main__":
    h, spins = Hamiltonian(Lattice((4, 4)), t=1.0, J=1.5), random_spins(3, Lattice((4, 4)))
    _, mine = exact_weight(h, 0.1, mu=-0.3, method="autograd").log_weight_and_forces(spins)
    _, theirs = exact_weight(h, 0.1, mu=-0.3, method="blocks").log_weight_and_forces(spins)
    print("largest difference of the forces:", largest := float((mine - theirs).abs().max()))
    assert largest < 1e-8
