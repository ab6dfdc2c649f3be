r"""One-body Hamiltonian of fermions on a lattice of classical spins.

.. math:: h(S) = -t\, A \otimes 1_2 + \frac{J}{2} \bigoplus_i S_i \cdot \sigma

with A the adjacency of the lattice. Row ``2 i + a`` is site i, spin a (0 up, 1 down). h is
Hermitian, 2N x 2N. The conventions of the whole program are stated here and nowhere else.
"""

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from hpcslmc.errors import UserError
from hpcslmc.physics.lattice import Lattice

ROW_ENTRIES = 6
"""Entries of a row of h(S): four hops, the diagonal, the spin flip."""


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

    def __init__(
        self, lattice: Lattice, t: float, J: float, device: torch.device | str = "cpu"
    ) -> None:
        self.lattice, self.t, self.J, self.device = lattice, t, J, device

    @property
    def bound(self) -> float:
        """Gershgorin bound of all |E_n|, whatever the spins: 4 |t| + |J| / 2."""
        return 4.0 * abs(self.t) + 0.5 * abs(self.J)

    @cached_property
    def _hopping(self) -> Tensor:
        adjacency = torch.as_tensor(
            self.lattice.adjacency, dtype=torch.complex128, device=self.device
        )
        return torch.kron(
            -self.t * adjacency, torch.eye(2, dtype=torch.complex128, device=self.device)
        )

    def check_spins(self, spins: Tensor) -> None:
        """Raise UserError unless spins are (chains, sites, 3) float64.

        One configuration alone would pass for many chains.
        """
        one = (self.lattice.sites, 3)
        if isinstance(spins, Tensor) and spins.shape[1:] == one and spins.dtype == torch.float64:
            return
        is_array = hasattr(spins, "shape")
        found = f"{tuple(spins.shape)} {spins.dtype}" if is_array else type(spins).__name__
        raise UserError(
            f"spins have to be a torch tensor (chains, {self.lattice.sites}, 3) of "
            f"torch.float64, not {found}."
        )

    def dense(self, spins: Tensor) -> Tensor:
        """Dense matrices, (chains, 2 sites, 2 sites) complex128, of spins (chains, sites, 3)
        float64.
        """
        self.check_spins(spins)
        h = self._hopping.repeat(len(spins), 1, 1)
        sx, sy, sz = (0.5 * self.J * spins).unbind(-1)
        diagonal = h.diagonal(dim1=1, dim2=2)
        diagonal[:, 0::2] += sz
        diagonal[:, 1::2] -= sz
        h.diagonal(1, dim1=1, dim2=2)[:, 0::2] += torch.complex(sx, -sy)
        h.diagonal(-1, dim1=1, dim2=2)[:, 0::2] += torch.complex(sx, sy)
        return h

    def rows(self, spins: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Entries of some rows of h(S), for sparse and for distributed matrices.

        Parameters
        ----------
        spins : (sites, 3) float64
        rows : (rows,) int

        Returns
        -------
        columns : (rows, 6) int
            A column that is met twice (across a direction of length 2) counts twice.
        values : (rows, 6) complex128
        """
        site, down = np.divmod(rows, 2)
        sign = 1 - 2 * down
        sx, sy, sz = 0.5 * self.J * spins[site].T
        hops = 2 * self.lattice.neighbours[site] + down[:, None]
        columns = np.column_stack((hops, rows, rows + sign))
        values = np.full(columns.shape, -self.t, dtype=np.complex128)
        values[:, 4] = sign * sz
        values[:, 5] = sx - 1j * sign * sy
        return columns, values
