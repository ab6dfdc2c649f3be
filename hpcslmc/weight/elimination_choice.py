"""Choice between the eliminations, all of which give the same numbers."""

import torch

from hpcslmc.parallel.world import World
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.weight.choice import is_by_rows
from hpcslmc.weight.elimination import Elimination
from hpcslmc.weight.multifrontal import Multifrontal
from hpcslmc.weight.rows import Rows


def make_elimination(
    hamiltonian: Hamiltonian,
    mu: float,
    group: World,
    dtype: torch.dtype = torch.complex128,
) -> Elimination:
    """Make the elimination that is faster on this lattice; arguments as of `Elimination`."""
    kind = Rows if is_by_rows(hamiltonian) else Multifrontal
    return kind(hamiltonian, mu, group, dtype)
