"""Choice between the eliminations, all of which give the same numbers."""

import torch

from hpcslmc.parallel.world import World
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.weight.choice import WIDEST_ROWS
from hpcslmc.weight.elimination import Elimination
from hpcslmc.weight.multifrontal import Multifrontal
from hpcslmc.weight.rows import Rows, serves


def make_elimination(
    hamiltonian: Hamiltonian,
    mu: float,
    group: World,
    dtype: torch.dtype = torch.complex128,
) -> Elimination:
    """Make the elimination that is faster on this lattice; arguments as of `Elimination`."""
    narrow = serves(hamiltonian) and min(hamiltonian.lattice.shape) <= WIDEST_ROWS
    kind = Rows if narrow else Multifrontal
    return kind(hamiltonian, mu, group, dtype)
