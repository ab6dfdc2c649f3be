"""Checks that end the job where an exact weight is not finite.

They must not become silently rejected proposals.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from hpcslmc.density import Evaluation
from hpcslmc.errors import Failure
from hpcslmc.parallel.memory import Batches
from hpcslmc.sampling import LocalChanges
from hpcslmc.weight.method import ExactWeight

FACTORISATION_FAILURES = (torch.linalg.LinAlgError, FloatingPointError)


class Guarded:
    """Wrap a density: end the job, and keep the configuration, if log W or a force is not finite.

    Parameters
    ----------
    density : ExactWeight
    chains : (chains,) int64
        Global chains of the rows of spins.
    folder : Path
        Where a configuration that fails is kept, as ``failed_chain_N.npy``: (sites, 3) float64.
    alone : bool
        Whether this rank evaluates alone, and in smaller batches where an accelerator's memory does
        not hold all chains. If not, the other ranks of the group would know nothing of it; and a
        failed factorisation cannot be tried again chain by chain: all chains are kept then.
    """

    def __init__(
        self, density: ExactWeight, chains: Tensor, folder: Path, alone: bool = True
    ) -> None:
        self.density, self.folder, self.alone = density, folder, alone
        self._chains = chains.tolist()
        self.batches = Batches()

    def evaluate(self, spins: Tensor, forces: bool = False) -> Evaluation:
        """Evaluate the density at spins (chains, sites, 3).

        Raises
        ------
        Failure
            If log W or a force is not finite, or a factorisation fails; names the chain.
        """
        return self._checked(spins, lambda rows: self.density.evaluate(spins[rows], forces))

    def reweight(self, spins: Tensor, known: Evaluation, forces: bool = False) -> Evaluation:
        """Evaluate the density at spins whose evaluation at another temperature is known.

        Raises as ``evaluate``.
        """
        return self._checked(
            spins, lambda rows: self.density.reweight(spins[rows], known.rows(rows), forces)
        )

    def with_energy(self, spins: Tensor, known: Evaluation) -> Evaluation:
        """Complete the known evaluation of spins by energy and density; raises as ``evaluate``."""
        return self._checked(
            spins, lambda rows: self.density.with_energy(spins[rows], known.rows(rows))
        )

    def _checked(self, spins: Tensor, evaluate: Callable[[slice], Evaluation]) -> Evaluation:
        try:
            evaluation = (
                Evaluation.joined(self.batches.map(evaluate, len(spins)))
                if self.alone
                else evaluate(slice(None))
            )
        except FACTORISATION_FAILURES as error:
            self.fail(spins, evaluate, error)
        fine = evaluation.log_weight.isfinite()
        if evaluation.forces is not None:
            fine = fine & evaluation.forces.isfinite().all((1, 2))
        if not fine.all():
            row = int((~fine).nonzero()[0, 0])
            self._fail(
                spins,
                row,
                f"log W = {float(evaluation.log_weight[row])}, or its forces, are not finite",
            )
        return evaluation

    def fail(
        self, spins: Tensor, evaluate: Callable[[slice], object], error: Exception
    ) -> NoReturn:
        """End the job for an error in evaluating spins.

        ``evaluate`` tries some rows of them again, to find the chain.
        """
        rows = range(len(spins)) if self.alone else ()
        self._fail(
            spins,
            next((row for row in rows if _breaks(evaluate, slice(row, row + 1))), None),
            str(error),
        )

    def _fail(self, spins: Tensor, row: int | None, what: str) -> NoReturn:
        # a part of the chains is only asked for with spins that have passed before
        if row is not None and len(spins) == len(self._chains):
            chain = f"{self._chains[row]}"
        else:
            chain = f"{self._chains[0]}-{self._chains[-1]}"
        path = self.folder / f"failed_chain_{chain}.npy"
        np.save(path, spins[row if row is not None else slice(None)].cpu().numpy())
        raise Failure(
            f"the exact weight of chain {chain} failed: {what}; the configuration is kept in {path}"
        )


class GuardedSweeps:
    """Wrap local updates: their failures are those of a guarded density.

    Parameters
    ----------
    local : LocalChanges
    guard : Guarded
    """

    def __init__(self, local: LocalChanges, guard: Guarded) -> None:
        self.local, self.guard = local, guard

    def sweep(
        self, spins: Tensor, log_weight: Tensor, *choices: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Sweep as `LocalChanges.sweep`.

        Raises Failure where a factorisation fails or log W drifts.
        """
        try:
            if not self.guard.alone:
                return self.local.sweep(spins, log_weight, *choices)
            parts = self.guard.batches.map(
                lambda rows: self.local.sweep(
                    spins[rows], log_weight[rows], *(x[rows] for x in choices)
                ),
                len(spins),
            )
            swept, log_weights, accepted = (torch.cat(each) for each in zip(*parts, strict=True))
            return swept, log_weights, accepted
        except FACTORISATION_FAILURES as error:
            self.guard.fail(
                spins,
                lambda rows: self.local.sweep(
                    spins[rows], log_weight[rows], *(x[rows] for x in choices)
                ),
                error,
            )


def _breaks(evaluate: Callable[[slice], object], row: slice) -> bool:
    try:
        evaluate(row)
    except FACTORISATION_FAILURES:
        return True
    return False
