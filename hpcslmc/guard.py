"""Exact weights that are no numbers end the job: they must not become silently rejected proposals."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hpcslmc.errors import Failure
from hpcslmc.evaluation import Density, Evaluation


FACTORISATION_FAILURES = (torch.linalg.LinAlgError, FloatingPointError)


class Guarded:
    """A density whose answers are all finite.

    Parameters
    ----------
    density : Density
    chains : (chains,) int64
        Global chains of the rows of spins.
    folder : Path
        Where a configuration that fails is kept, as ``failed_chain_N.npy``: (sites, 3) float64.
    """

    def __init__(self, density: Density, chains: Tensor, folder: Path) -> None:
        self.density, self.folder = density, folder
        self._chains = chains.tolist()

    def evaluate(self, spins: Tensor, forces: bool = False) -> Evaluation:
        """The density at spins (chains, sites, 3).

        Raises
        ------
        Failure
            If log W or a force is not finite, or a factorisation fails; names the chain.
        """
        return self._checked(spins, lambda rows: self.density.evaluate(spins[rows], forces))

    def reweight(self, spins: Tensor, known: Evaluation, forces: bool = False) -> Evaluation:
        """The density at spins whose evaluation at another temperature is known; raises as ``evaluate``."""
        return self._checked(spins, lambda rows: self.density.reweight(spins[rows], known.rows(rows), forces))

    def _checked(self, spins: Tensor, evaluate: Callable[[slice], Evaluation]) -> Evaluation:
        try:
            evaluation = evaluate(slice(None))
        except FACTORISATION_FAILURES as error:
            self._fail(spins, next(row for row in range(len(spins)) if _breaks(evaluate, slice(row, row + 1))), str(error))
        fine = evaluation.log_weight.isfinite()
        if evaluation.forces is not None:
            fine = fine & evaluation.forces.isfinite().all((1, 2))
        if not fine.all():
            row = int((~fine).nonzero()[0, 0])
            self._fail(spins, row, f"log W = {float(evaluation.log_weight[row])}, or its forces, are not finite")
        return evaluation

    def _fail(self, spins: Tensor, row: int, what: str) -> None:
        # a part of the chains is only asked for with spins that have passed before
        chain = self._chains[row] if len(spins) == len(self._chains) else "unknown"
        path = self.folder / f"failed_chain_{chain}.npy"
        np.save(path, spins[row].cpu().numpy())
        raise Failure(f"the exact weight of chain {chain} failed: {what}; the configuration is kept in {path}")


def _breaks(evaluate: Callable[[slice], Evaluation], row: slice) -> bool:
    try:
        evaluate(row)
    except FACTORISATION_FAILURES:
        return True
    return False
