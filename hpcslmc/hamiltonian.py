r"""One-body Hamiltonian of fermions on a lattice of classical spins.

.. math:: h(S) = -t\, A \otimes 1_2 + \frac{J}{2} \bigoplus_i S_i \cdot \sigma

with A the adjacency of the lattice. Row ``2 i + a`` is site i, spin a (0 up, 1 down). h is Hermitian,
2N x 2N. The conventions of the whole program are stated here and nowhere else.
"""

import torch
from torch import Tensor

from hpcslmc.lattice import Lattice


class Hamiltonian:
    """h(S) of the spin-fermion (double-exchange, classical Kondo) model.

    Parameters
    ----------
    lattice : Lattice
    t : float
        Hopping; the unit of energy is usually t = 1.
    J : float
        Coupling of the local spin to the electrons' spin.
    device : torch.device or str
    """

    def __init__(self, lattice: Lattice, t: float, J: float, device: torch.device | str = "cpu") -> None:
        self.lattice, self.t, self.J = lattice, t, J
        adjacency = torch.as_tensor(lattice.adjacency, dtype=torch.complex128, device=device)
        self._hopping = torch.kron(-t * adjacency, torch.eye(2, dtype=torch.complex128, device=device))

    def dense(self, spins: Tensor) -> Tensor:
        """Dense matrices, (chains, 2 sites, 2 sites) complex128, of spins (chains, sites, 3) float64."""
        h = self._hopping.repeat(len(spins), 1, 1)
        sx, sy, sz = (0.5 * self.J * spins).unbind(-1)
        diagonal = h.diagonal(dim1=1, dim2=2)
        diagonal[:, 0::2] += sz
        diagonal[:, 1::2] -= sz
        h.diagonal(1, dim1=1, dim2=2)[:, 0::2] += torch.complex(sx, -sy)
        h.diagonal(-1, dim1=1, dim2=2)[:, 0::2] += torch.complex(sx, sy)
        return h
