"""Exact fermion weight without eigenvalues.

Sparse log-determinants at few Matsubara-like frequencies.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from hpcslmc.density import Evaluation
from hpcslmc.errors import UserError
from hpcslmc.parallel.world import World
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.weight.blocks import Blocks
from hpcslmc.weight.determinants import Determinants

OPTIONS_PREFIX = "hpcslmc_"
"""Prefix of the one entry in PETSc's options database, the same for all weights.

The database has room for 512 entries.
"""

AMD, PORD = 0, 4
"""Numbers of orderings of the unknowns in MUMPS.

PORD fills in least, but ends the program where it finds no separators: where nearly all sites are
neighbours of each other.
"""


@dataclass(frozen=True)
class FactorisationStatistics:
    """Statistics of a factorisation by MUMPS, over all ranks of its team.

    Attributes
    ----------
    operations : float
        Complex multiplications and additions done by elimination, each counted as one: RINFOG(3).
    ordering : int
        The ordering that was used, 4 for PORD: INFOG(7).
    bytes : float
        Memory used, to 1e6 bytes: INFOG(22).
    """

    operations: float
    ordering: int
    bytes: float


class Matsubara(Determinants):
    r"""Exact weight from the determinants of sparse shifted matrices.

    The determinants of 1 + i (h - mu) / w_k are those of h - mu - i w_k in a form that loses
    nothing where w_k is large. The nodes (a_k, w_k) depend on the model only (``nodes.py``).

    Attributes
    ----------
    error : float
        Bound of the error of log W from the finite number of nodes: 2N times the nodes' measured
        error, at most 5e-9 unless that is below three roundings of beta R per eigenvalue. The
        rounding of the factorisations comes on top, below 1e-9 where it was compared with dense
        eigenvalues.

    Raises
    ------
    UserError
        If there is no petsc4py, or its PETSc has real scalars or no MUMPS.

    Notes
    -----
    One LU factorisation of a 2N x 2N matrix with 6 entries a row for each of K shifts (K = 10 or 11
    at beta = 20) by MUMPS, whose analysis is made once. A group of ranks shares out the shifts; of
    more ranks than shifts, teams share each factorisation. The Hermitian part of 1 + i(h - mu)/w is
    the identity, so neither pivoting nor scaling is needed. tools/bench/weights.py measures time,
    growth with N and differences to dense eigenvalues, ``tools/study/matsubara_nodes.py --speed``
    the time per shift.
    """

    def __init__(self, ensemble: Ensemble, group: World | None = None) -> None:
        super().__init__(ensemble, group)
        self._blocks_weight: Blocks | None = None
        self.error = 2 * ensemble.sites * self.nodes.error
        self._static, self._diagonal = self.hamiltonian.pattern
        self._teams = min(self.group.size, len(self.nodes.frequencies))
        self._team = self.group.rank * self._teams // self.group.size
        self._factorisation = _Factorisation(
            self._static, self.hamiltonian.row_entries, self.group.teams(self._teams)
        )

    def log_dets(self, spins: Tensor, frequencies: np.ndarray) -> Tensor:
        """Return log det A_k (chains, K) as every `Determinants`. Collective over the group."""
        blocks, values = self._blocks(spins), self._static.data.copy()
        static = values[self._diagonal]
        log_dets = np.zeros((len(spins), len(frequencies)), complex)
        pairs = itertools.product(range(len(spins)), enumerate(frequencies))
        for chain, (k, w) in itertools.islice(pairs, self._team, None, self._teams):
            values[self._diagonal] = static + blocks[chain]
            shifted = values * (1j / w)
            shifted[self._diagonal[:, [0, 1], [0, 1]]] += 1.0
            log_dets[chain, k] = self._factorisation.log_det(shifted)
        if not self._factorisation.team.is_root:
            log_dets[:] = 0.0
        found = self.group.sum(log_dets if self.needs_arguments else log_dets.real.copy())
        return torch.as_tensor(found, device=spins.device)

    def evaluate(self, spins: Tensor, forces: bool = False) -> Evaluation:
        """Evaluate spins (chains, sites, 3). Collective over the group.

        Returns log W alone; with ``forces`` everything, by block elimination.
        """
        if not forces:
            return self._evaluation(self.log_dets(spins, self.nodes.frequencies))
        if self._blocks_weight is None:
            self._blocks_weight = Blocks(self.ensemble, self.group)
        return self._blocks_weight.evaluate(spins, forces=True)

    def statistics(self) -> FactorisationStatistics:
        """Return work and memory of the last of this rank's factorisations.

        There has to have been one.
        """
        return self._factorisation.statistics()

    def _blocks(self, spins: Tensor) -> np.ndarray:
        """Return the diagonal blocks V(S_i) - mu, (chains, sites, 2, 2) complex128."""
        self.hamiltonian.check_spins(spins)
        blocks = self.hamiltonian.site_blocks(spins.detach())
        blocks.diagonal(dim1=-2, dim2=-1).sub_(self.mu)
        return blocks.cpu().numpy()


class _Factorisation:
    """Factorisation of matrices of one sparsity pattern, for their log det.

    The ranks of a team work together; the pattern is analysed once.
    """

    def __init__(self, pattern: scipy.sparse.csr_matrix, row_entries: int, team: World) -> None:
        petsc = _complex_petsc()
        self.team = team
        communicator = team.communicator or petsc.COMM_SELF
        rows = (len(range(team.rank, pattern.shape[0], team.size)), pattern.shape[0])
        self._matrix = petsc.Mat().createAIJ(
            (rows, rows), nnz=(row_entries, row_entries), comm=communicator
        )
        first, last = self._matrix.getOwnershipRange()
        offsets = pattern.indptr[first : last + 1]
        self._mine = slice(offsets[0], offsets[-1])
        self._rows = (offsets - offsets[0]).astype(petsc.IntType)
        self._columns = pattern.indices[self._mine].astype(petsc.IntType)
        self._matrix.setValuesCSR(self._rows, self._columns, pattern.data[self._mine])
        self._matrix.assemble()
        self._solver = petsc.PC().create(communicator)
        self._solver.setType("lu")
        self._solver.setFactorSolverType("mumps")
        self._solver.setOperators(self._matrix)
        self._solver.setFactorSetUpSolverType()
        factor = self._solver.getFactorMatrix()
        # PETSc overwrites the control of the ordering, 7, when it analyses the pattern, unless its
        # options have it too
        petsc.Options(OPTIONS_PREFIX)["mat_mumps_icntl_7"] = (
            PORD if 2 * row_entries <= pattern.shape[0] else AMD
        )
        factor.setOptionsPrefix(OPTIONS_PREFIX)
        # keep the determinant, not the factors; no permutation, scaling or pivoting
        for number, value in {33: 1, 31: 1, 14: 50, 6: 0, 8: 0}.items():
            factor.setMumpsIcntl(number, value)
        factor.setMumpsCntl(1, 0.0)

    def log_det(self, values: np.ndarray) -> complex:
        """Return log det of the matrix with these entries, in the order of the pattern's data.

        The imaginary part is modulo 2 pi. Collective over the team.
        """
        self._matrix.setValuesCSR(self._rows, self._columns, values[self._mine])
        self._matrix.assemble()
        self._solver.setUp()
        factor: Any = self._solver.getFactorMatrix()
        if factor.getMumpsInfog(1) < 0:
            raise FloatingPointError(
                "MUMPS failed to factorise a shifted Hamiltonian: INFOG(1) = "
                f"{factor.getMumpsInfog(1)}"
            )
        real, imaginary = factor.getMumpsRinfog(12), factor.getMumpsRinfog(13)
        modulus = math.log(math.hypot(real, imaginary))
        modulus += factor.getMumpsInfog(34) * math.log(2.0)
        return complex(modulus, math.atan2(imaginary, real))

    def statistics(self) -> FactorisationStatistics:
        factor = self._solver.getFactorMatrix()
        return FactorisationStatistics(
            factor.getMumpsRinfog(3), factor.getMumpsInfog(7), 1e6 * factor.getMumpsInfog(22)
        )


def _complex_petsc() -> Any:
    """Import petsc4py.PETSc with complex scalars; late, as it initialises MPI."""
    try:
        import petsc4py

        petsc4py.init()
        from petsc4py import PETSc
    except ImportError as error:
        raise UserError(
            "the weight method 'matsubara' needs petsc4py with complex scalars and MUMPS; see "
            "tools/setup"
        ) from error
    if not np.issubdtype(PETSc.ScalarType, np.complexfloating):
        raise UserError(
            "the weight method 'matsubara' needs a PETSc with complex scalars, and this one has "
            "real ones"
        )
    if not PETSc.Sys.hasExternalPackage("mumps"):
        raise UserError(
            "the weight method 'matsubara' needs a PETSc built with MUMPS, and this one has none"
        )
    return PETSc
