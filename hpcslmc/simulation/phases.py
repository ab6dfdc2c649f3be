"""The phases of a run, in order: thermalise, learn, tune, sample.

Each carries on by units of work (a move, a gradient step, a sample), after any of which a
checkpoint may be taken.
"""

import math
from abc import ABC, abstractmethod
from collections import deque
from typing import ClassVar

import numpy as np

from hpcslmc.job.schema import Job
from hpcslmc.learning.rounds import SelfLearning
from hpcslmc.simulation.ladder import Ladder
from hpcslmc.simulation.rung import NotFinite, Rung
from hpcslmc.simulation.tuning import EnsembleTuning

PHASES = ("thermalise", "learn", "tune", "sample")
"""Names of all phases, in order."""
GUIDED_TUNING = 20
"""Moves of the phase ``tune``."""
RECENT = 100
"""Samples that the acceptance of a run in progress is a mean of."""


class Phase(ABC):
    """A part of a run.

    Attributes
    ----------
    name : str
        One of ``PHASES``.
    done : int
        Units of work done; 0 in learning, which counts its own.
    acceptance : float
        Of all chains at all temperatures, of the last move; nan before.
    idle : int
        Chains, each temperature's counted, that are known to have stood still.
    alarms : list of NotFinite
        What this rank has measured that is no number, which other ranks do not know; whoever has
        told it clears the list.
    """

    name: ClassVar[str]

    def __init__(self, job: Job, ladder: Ladder) -> None:
        self.job, self.ladder = job, ladder
        self.done, self.acceptance, self.idle = 0, math.nan, 0
        self.alarms: list[NotFinite] = []

    def begin(self, before: "Phase") -> None:
        """Start from what the phase before has found."""
        self.acceptance = before.acceptance

    @abstractmethod
    def advance(self) -> None:
        """Do one unit of work. Collective."""

    @property
    @abstractmethod
    def total(self) -> int:
        """Units of work of the phase, as far as is known."""

    @property
    def progress(self) -> tuple[int, int]:
        """Units of work done in the present stage, and its total."""
        return self.done, self.total

    @property
    def finished(self) -> bool:
        """True if all units of work are done."""
        return self.done >= self.total

    @property
    def stage(self) -> str:
        """Name of the kind of the next unit of work."""
        return self.name

    def agree(self) -> None:  # noqa: B027  most phases have nothing to talk of
        """Work out ``acceptance`` and ``idle`` of all ranks' chains. Collective.

        Nothing happens where ``advance`` does so already; no chain depends on the outcome.
        """


class Thermalise(Phase):
    """Thermalisation: exact moves, whose steps are tuned, as is the ensemble.

    The latter are the temperatures of a ladder and the chemical potentials of a filling.
    """

    name = "thermalise"

    def __init__(self, job: Job, ladder: Ladder, tuning: EnsembleTuning) -> None:
        super().__init__(job, ladder)
        self.tuning = tuning
        self._finished = False

    def advance(self) -> None:
        """Make one exact move of every chain, and tune by it."""
        rungs = self.ladder.rungs
        statistics = [rung.thermalise() for rung in rungs]
        self.acceptance = self.ladder.tune([rung.exact for rung in rungs], statistics)
        self.ladder.exchange(forces=self.job.sampling.exact_move == "hmc")
        self.done += 1
        self._finished = self.tuning.after_move(self.done, rungs, self.ladder.swaps)

    @property
    def total(self) -> int:
        """Moves, as far as the errors of the densities tell."""
        return self.tuning.expected_moves(self.done)

    @property
    def finished(self) -> bool:
        """True if the chains are thermalised in an ensemble that is final."""
        return self._finished


class Learn(Phase):
    """Self-learning, one temperature after the other.

    ``acceptance`` is that of this round.
    """

    name = "learn"

    def begin(self, before: Phase) -> None:
        """Start from the trajectories that exact moves have found."""
        super().begin(before)
        for learning in self._learnings:
            learning.begin()

    def advance(self) -> None:
        """Do one unit of work of the temperature that learns."""
        rung, learning = self.rung, self.learning
        rung.chains = learning.advance(rung.chains)
        self.acceptance = learning.acceptance
        if learning.finished and rung is not self.ladder.rungs[-1]:
            # a neighbour's model is a better start than none
            self._learnings[rung.number + 1].start_from(learning.models)

    @property
    def _learnings(self) -> list[SelfLearning]:
        return [rung.learning for rung in self.ladder.rungs if rung.learning]

    @property
    def rung(self) -> Rung:
        """The temperature that learns."""
        unfinished = [
            rung for rung in self.ladder.rungs if rung.learning and not rung.learning.finished
        ]
        return unfinished[0] if unfinished else self.ladder.rungs[-1]

    @property
    def learning(self) -> SelfLearning:
        """The learning of that temperature."""
        return self._learnings[self.rung.number]

    @property
    def total(self) -> int:
        """Units of work of the present stage."""
        return self.learning.progress[1]

    @property
    def progress(self) -> tuple[int, int]:
        """Units of work done in the present stage of learning, and its total."""
        return self.learning.progress

    @property
    def finished(self) -> bool:
        """True if the models of all temperatures are frozen."""
        return all(learning.finished for learning in self._learnings)

    @property
    def stage(self) -> str:
        """The present stage of learning."""
        return self.learning.stage


class Tune(Phase):
    """Exact moves guided by the model, whose step is tuned."""

    name = "tune"

    def begin(self, before: Phase) -> None:
        """Start from the trajectories that exact and inner moves have found."""
        super().begin(before)
        for rung in self.ladder.rungs:
            rung.begin_tuning()

    def advance(self) -> None:
        """Make one guided move of every chain, and tune by it."""
        rungs = self.ladder.rungs
        statistics = [rung.tune() for rung in rungs]
        moves = [rung.guided for rung in rungs if rung.guided]
        self.acceptance = self.ladder.tune(moves, statistics)
        self.done += 1

    @property
    def total(self) -> int:
        """Moves."""
        return GUIDED_TUNING


class Sample(Phase):
    """Moves and measurements, with parameters and step sizes frozen; only here are data kept.

    ``acceptance`` and ``idle`` are those that ``agree`` has found: of the last ``RECENT`` samples,
    and of all complete bins.
    """

    name = "sample"

    def __init__(self, job: Job, ladder: Ladder) -> None:
        super().__init__(job, ladder)
        self._some_idle = True
        # acceptance of the last samples of this rank's chains
        self._recent: deque[float] = deque(maxlen=RECENT)

    def begin(self, before: Phase) -> None:
        """Count swaps and journeys from here on."""
        super().begin(before)
        if self.ladder.swaps:
            self.ladder.swaps.forget()

    def advance(self) -> None:
        """Advance every chain by one sample, exchange where it is time, and measure."""
        job, rungs = self.job, self.ladder.rungs
        for rung in rungs:
            rung.move()
        self.done += 1
        if job.ensemble.exchange and self.done % job.ensemble.exchange == 0:
            self.ladder.exchange(forces=job.sampling.by_forces)
        for rung in rungs:
            self.alarms += rung.measure(self.done)
        # from the bins, which the device has just given to the host
        self._recent.append(float(np.mean([rung.bins.latest("acceptance") for rung in rungs])))

    @property
    def total(self) -> int:
        """Samples of each chain."""
        return self.job.sampling.samples

    def agree(self) -> None:
        """Work out ``acceptance`` and ``idle`` of all ranks' chains. Collective."""
        if not self._recent:
            return
        world, rungs = self.ladder.ranks.chains, self.ladder.rungs
        idle = 0
        if self._some_idle:  # on all ranks or none
            idle = sum(int(rung.bins.idle.sum()) for rung in rungs)
        mean, idle = world.sum(np.array([np.mean(self._recent) / world.size, idle]))
        self.acceptance, self.idle = float(mean), int(idle)
        self._some_idle = self.idle > 0 or rungs[0].bins.draws.shape[1] < 2


def phases_of(job: Job, ladder: Ladder, tuning: EnsembleTuning) -> list[Phase]:
    """Return the phases of a job in order."""
    phases: list[Phase] = [Thermalise(job, ladder, tuning)]
    if job.sampling.method != "exact":
        phases.append(Learn(job, ladder))
    if job.sampling.method == "guided":
        phases.append(Tune(job, ladder))
    return [*phases, Sample(job, ladder)]
