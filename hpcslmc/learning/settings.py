"""Settings of learning: the keys of [learning] in a job file, and what follows from them."""

from typing import Annotated

from pydantic import Field, Strict

from hpcslmc.section import Count, Section


class LearningSection(Section):
    """Data and training of the effective model."""

    rounds: Annotated[int, Field(ge=0, lt=2**31)] = 5
    """Most rounds of training and collecting; they end earlier when the acceptance stops rising.

    0 takes start_from as it is.
    """
    configurations: Count | None = None
    """Exact configurations that each chain adds to the data before the first and in every round.

    If none is given 80, or for a model that is fitted to forces as few as that takes.
    """
    budget: Count | None = None
    """Most exact evaluations, over all chains, that learning may take.

    If none is given, rounds and configurations set it.
    """
    steps: Count = 800
    """Gradient steps of a round."""
    batch_size: Count = 256
    """Configurations of a gradient step, over all ranks."""
    rate: Annotated[float, Field(gt=0, le=1)] = 0.01
    """Peak learning rate of the optimiser (SOAP)."""
    energy_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of log W's squared error in the loss; 0 learns from the forces alone.

    A network's scale and the linear part beside it are then fitted to log W in the end.
    """
    force_weight: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the forces' squared error in the loss; 0 learns from log W alone."""
    augment: bool = False
    """Train on images of the configurations under random symmetries, new ones in every step.

    Rotations and reflections of all spins, with symmetries of the lattice: for models without.
    """
    validation_fraction: Annotated[float, Field(gt=0, le=0.5)] = 0.2
    """Share of the chains kept for validation; one of fewer than 5 chains, if not given."""
    replay: Annotated[tuple[Annotated[str, Strict(), Field(min_length=1)], ...], Strict(False)] = ()
    """Data files or output directories of earlier runs, whose evaluations are learned from too.

    Their lattices may be of any size.
    """
    keep_data: bool = False
    """Write the exact evaluations that were learned from to data.h5, for other runs to replay."""

    @property
    def validation_interval(self) -> int:
        """k, where every k-th chain validates."""
        return max(2, round(1.0 / self.validation_fraction))

    def validation_chains(self, chains: int) -> int:
        """Return how many of so many chains validate."""
        return chains // self.validation_interval

    def chain_budget(self, chains: int) -> int | None:
        """Return the most exact evaluations of each of so many chains, None for no bound."""
        return None if self.budget is None else self.budget // chains
