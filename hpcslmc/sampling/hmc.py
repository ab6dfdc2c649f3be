"""Hamiltonian Monte Carlo on a product of spheres."""

import math
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from hpcslmc.density import Density, Evaluation
from hpcslmc.physics.field import tangential
from hpcslmc.sampling.move import Move, Step
from hpcslmc.streams import Stream

Number = TypeVar("Number", float, Tensor)

TARGET_ACCEPTANCE = 0.8
"""Where trajectories take least, if the error x of the energy, of which the acceptance is erfc(x),
grows as the fourth power of the step: of a harmonic oscillator it does, and about so it was seen
to."""
SENSITIVITY = 1.28
"""Change of the logarithm of the step for one of the acceptance, there."""
LEAPFROG_TIME = 1.5
"""Time of a step of trajectories with corrected ends, of the same error as one step of leapfrog.

In units of it. Measured at 16x16: 1.4 to 1.7.
"""
NEGLECTED = 0.25
"""Part of one more evaluation that does not count as one.

Rather too many than too few: where spins are stiff, acceptance falls off a cliff.
"""
MOST_STEPS = 1000
"""Most evaluations of a trajectory that tuning may arrive at."""
END_KICK, END_FLOW = 7.0 / 24.0, 3.0 / 4.0
"""Kick and flow at both ends of a trajectory, in units of a step."""
GUIDED_STEP = 0.25
"""Longest step by the guide's forces, between two evaluations of the density.

At least three are made.
"""
MISGUIDED = 2.0
"""Ratio of squared forces with and without a guide above which the guide is given up.

Such a guide is worse than none, whatever the noise of one move.
"""
HOPELESS = 1e-3
"""Mean chance of acceptance up to which a trajectory is cut to the time between evaluations."""
SHORT, LONG = 0.01, 2.0
"""Shortest and longest trajectory that tuning tries."""
CAUTIOUS = 0.2
"""Step that tuning starts from, and length where it is to be found."""
TINY = 1e-300
"""Smallest divisor, in the place of zeros that are divided by."""
DIGITS = 6
"""Decimals of a change of the length's logarithm: sums over ranks may differ by rounding."""


def _geodesic(spins: Tensor, momenta: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
    """Move freely on the spheres for a time (chains, 1, 1): great circles at speed |p_i|."""
    speed = momenta.norm(dim=-1, keepdim=True).clamp_min(TINY)
    angle = speed * time
    cosine, sine = torch.cos(angle), torch.sin(angle)
    moved = spins * cosine + momenta * (sine / speed)
    turned = momenta * cosine - spins * (speed * sine)
    return moved / moved.norm(dim=-1, keepdim=True), turned


class Shares(NamedTuple):
    """Kick, flow and kick from one evaluation to the next, in units of the time of a step."""

    before: float
    flow: float
    after: float


LEAPFROG = Shares(0.5, 1.0, 0.5)


def corrected_leapfrog(evaluations: int) -> list[Shares]:
    """Return kicks and flows of a trajectory, from each evaluation to the next.

    It reads the same from both ends. One evaluation is a leapfrog step. Of more, all are but for
    the first, a kick w, a flow a and a kick a - w, and the last, its mirror image.

    Notes
    -----
    Of a harmonic oscillator with the energy p^2 + x^2, leapfrog steps of the phase z keep p^2 +
    (1 - z^2 / 4) x^2. The first step carries a circle to such an ellipse, and the last one back, up
    to terms of order z^3, if a (a - 2 w) = 1 / 8; these are small for a from 0.7 to 0.8, of which a
    = 3/4 with w = 7/24 are simple numbers. Such are integrators with processing: Blanes, Casas,
    Ros, SIAM J. Sci. Comput. 21, 711 (1999). Two evaluations are, with 7/36 in place of 0.193, what
    Omelyan, Mryglod, Folk, Comput. Phys. Commun. 151, 272 (2003) found best.
    """
    if evaluations == 1:
        return [LEAPFROG]
    first = Shares(END_KICK, END_FLOW, END_FLOW - END_KICK)
    return [first, *[LEAPFROG] * (evaluations - 2), Shares(*reversed(first))]


class Tuning(NamedTuple, Generic[Number]):
    """The columns of ``Step.tuning`` of HMC, or their means over all chains.

    Attributes
    ----------
    acceptance
        1 or 0.
    likely
        Expectation of it, p = min(1, exp(gain)).
    change, growth
        p times the change of log W along the trajectory, and times its derivative by the logarithm
        of the trajectory's length.
    change_squared, change_growth
        p times the change squared, and times the product of both.
    log_weight, log_weight_squared
        Log W at the start, and its square.
    forces, unguided
        Squared norm of the forces at the end, and of what the guide leaves of them; 0 without a
        guide.
    """

    acceptance: Number
    likely: Number
    change: Number
    growth: Number
    change_squared: Number
    change_growth: Number
    log_weight: Number
    log_weight_squared: Number
    forces: Number
    unguided: Number


class Trajectory(NamedTuple):
    """Where a trajectory of every chain ends, and its test by the density of its forces.

    Attributes
    ----------
    spins : (chains, sites, 3) float64
    evaluation : Evaluation
        At its end.
    gain : (chains,) float64
        Change of log W less that of the kinetic energy.
    accept : (chains,) bool
        Whether the density's own test accepts the end.
    tuning : (chains, 10) float64
        Columns of ``Tuning``.
    visited : tuple of (spins, Evaluation)
        As of a step.
    """

    spins: Tensor
    evaluation: Evaluation
    gain: Tensor
    accept: Tensor
    tuning: Tensor
    visited: tuple[tuple[Tensor, Evaluation], ...]


def _tuning(
    acceptance: Tensor,
    gain: Tensor,
    change: Tensor,
    growth: Tensor,
    log_weight: Tensor,
    forces: Tensor,
    unguided: Tensor,
) -> Tensor:
    """Return the columns of ``Tuning``, (chains, 10), from numbers (chains,).

    Those of a trajectory that has diverged count as zero.
    """
    finite = gain.isfinite()
    likely = torch.where(finite, gain.clamp_max(0.0).exp(), 0.0)
    change, growth, forces, unguided = (
        torch.where(finite, x, 0.0) for x in (change, growth, forces, unguided)
    )
    columns = Tuning(
        acceptance=acceptance,
        likely=likely,
        change=likely * change,
        growth=likely * growth,
        change_squared=likely * change.square(),
        change_growth=likely * change * growth,
        log_weight=log_weight,
        log_weight_squared=log_weight.square(),
        forces=forces,
        unguided=unguided,
    )
    return torch.stack(columns, 1)


class HMC:
    r"""One trajectory of geodesic flows and kicks, then a Metropolis test.

    Each spin gets a Gaussian momentum p_i in the tangent plane of its sphere. The Hamiltonian is
    -log W(S) + sum_i p_i^2 / 2; kicks by the tangential forces alternate with exact motion along
    great circles. These are leapfrog steps, which are stable up to the longest time between two
    evaluations that there is, but for the first and the last one: what leapfrog keeps is not the
    energy, and these carry the one to the other (``corrected_leapfrog``).

    Detailed balance: kicks p -> p + c e F(S) shift momenta within the tangent plane at fixed S, and
    the geodesic flow preserves the volume of the tangent bundle of the sphere; a sequence of kicks
    and flows that reads the same from both ends is its own inverse after p -> -p, as each of them
    is, and so is a trajectory of n of them.
    Metropolis' min(1, exp(-dH)) for such a reversible, volume-preserving map leaves exp(-H)
    invariant and, with momenta drawn afresh from their Gaussian, the move on S satisfies detailed
    balance with W. The step size of a trajectory is drawn uniformly within 20 % of its nominal
    value, independently of S: a mixture of reversible moves with fixed probabilities is reversible.
    Moves of one HMC object are therefore reversible in any number, as the exact test of
    self-learning Monte Carlo requires.

    With a guide, cheap forces G(S) close to F(S), kicks are by F - G, and several leapfrog steps by
    G take the place of a flow: again a symmetric sequence of kicks at fixed S and of flows, so that
    all of the above holds whatever the guide is, and -log W + p^2 / 2 with the whole log W is what
    the test compares (multiple time steps).

    Parameters
    ----------
    density : Density
        What is sampled; has to give forces.
    stream : Stream
    length : float, optional
        Integration time of a trajectory; a free spin turns by about that angle. Where none is
        given, ``tune`` finds it.
    step_size : float
        Longest nominal time of a step to start from; ``tune`` changes it.
    guide : callable, optional
        Forces (chains, sites, 3) of spins like them, that do most of the work between two
        evaluations of the density.
    shortest : float
        Shortest length that ``tune`` may find.

    Attributes
    ----------
    misguided : bool
        Whether ``tune`` has given up the guide, which left clearly larger forces than there are
        without it.

    Notes
    -----
    About ``length / step_size`` evaluations with forces per move. Byrne and Girolami, Scand. J.
    Stat. 40, 825 (2013), section 5; Tuckerman, Berne, Martyna, J. Chem. Phys. 97, 1990 (1992);
    Takaishi and de Forcrand, Phys. Rev. E 73, 036706 (2006).
    """

    def __init__(
        self,
        density: Density,
        stream: Stream,
        length: float | None = None,
        step_size: float = CAUTIOUS,
        guide: Callable[[Tensor], Tensor] | None = None,
        shortest: float = SHORT,
    ) -> None:
        self.density, self.stream, self.shortest = density, stream, shortest
        self._guide, self._first_step = guide, step_size
        self.finds_length = length is None
        self.length = max(step_size, shortest) if length is None else length
        self.step_size = step_size
        self.tunings = 0
        self.misguided = False

    @property
    def guide(self) -> Callable[[Tensor], Tensor] | None:
        """The guide, unless there is none or it was given up."""
        return None if self.misguided else self._guide

    @property
    def steps(self) -> int:
        """Evaluations of a trajectory."""
        wanted = self.length / self.step_size
        if LEAPFROG_TIME * wanted < 1.0 + NEGLECTED:
            return 1
        return max(2, math.ceil(wanted + 2.0 * (1.0 - END_FLOW) - NEGLECTED))

    @property
    def schedule(self) -> list[Shares]:
        """Kicks and flows of a trajectory, from each evaluation to the next."""
        return corrected_leapfrog(self.steps)

    @property
    def time(self) -> float:
        """Nominal time of a step."""
        return self.length / sum(step.flow for step in self.schedule)

    def evaluate(self, spins: Tensor) -> Evaluation:
        """Evaluate the density at spins (chains, sites, 3), as ``move`` wants it."""
        return self.density.evaluate(spins, forces=True)

    def move(self, spins: Tensor, evaluation: Evaluation, keep_visited: bool = False) -> Step:
        """Run and test one trajectory of every chain from spins (chains, sites, 3)."""
        end = self.run(spins, evaluation, keep_visited)
        return Step(
            spins=torch.where(end.accept[:, None, None], end.spins, spins),
            evaluation=end.evaluation.where(end.accept, evaluation),
            acceptance=end.accept.double(),
            tuning=end.tuning,
            visited=end.visited,
        )

    def run(self, spins: Tensor, evaluation: Evaluation, keep_visited: bool = False) -> Trajectory:
        """Run one trajectory of every chain from spins (chains, sites, 3) with known forces."""
        sites = spins.shape[1]
        numbers = self.stream.uniform(2)
        time = (self.time * (0.8 + 0.4 * numbers[:, 0]))[:, None, None]
        momenta = tangential(self.stream.normal(sites, 3), spins)
        kinetic = 0.5 * momenta.square().sum((1, 2))
        moved, proposed = spins, evaluation
        guiding = self.guide(spins) if self.guide else None
        visited: list[tuple[Tensor, Evaluation]] = []
        for shares in self.schedule:
            moved, momenta, proposed, guiding = self._step(
                moved, momenta, proposed, guiding, time, shares
            )
            if keep_visited:
                visited.append((moved, proposed))
        # Metropolis test of the change of log W minus kinetic energy
        change = proposed.log_weight - evaluation.log_weight
        gain = change + kinetic - 0.5 * momenta.square().sum((1, 2))
        accept = torch.log(numbers[:, 1]) < gain
        # tuning statistics: slope of log W at the end, squared forces, and those the guide leaves
        speed = (proposed.known_forces * momenta).sum((1, 2))
        forces = unguided = torch.zeros_like(gain)
        if guiding is not None:
            forces, unguided = (
                tangential(of, moved).square().sum((1, 2))
                for of in (proposed.known_forces, proposed.known_forces - guiding)
            )
        tuning = _tuning(
            accept.double(),
            gain,
            change,
            speed * self.length / self.time * time[:, 0, 0],
            evaluation.log_weight,
            forces,
            unguided,
        )
        return Trajectory(moved, proposed, gain, accept, tuning, tuple(visited))

    def _step(
        self,
        spins: Tensor,
        momenta: Tensor,
        evaluation: Evaluation,
        guiding: Tensor | None,
        time: Tensor,
        shares: Shares,
    ) -> tuple[Tensor, Tensor, Evaluation, Tensor | None]:
        """Move to the next evaluation, by way of the guide if there is one.

        ``guiding`` are the guide's forces at the spins, ``time`` (chains, 1, 1) is that of a step.
        """
        before, flow, after = (share * time for share in shares)
        if guiding is None or self.guide is None:
            momenta = momenta + before * tangential(evaluation.known_forces, spins)
            spins, momenta = _geodesic(spins, momenta, flow)
            evaluation = self.evaluate(spins)
            return (
                spins,
                momenta + after * tangential(evaluation.known_forces, spins),
                evaluation,
                None,
            )
        inner = max(3, math.ceil(shares.flow * self.time / GUIDED_STEP))
        short = flow / inner
        momenta = momenta + before * tangential(evaluation.known_forces - guiding, spins)
        for _ in range(inner):
            momenta = momenta + 0.5 * short * tangential(guiding, spins)
            spins, momenta = _geodesic(spins, momenta, short)
            guiding = self.guide(spins)
            momenta = momenta + 0.5 * short * tangential(guiding, spins)
        evaluation = self.evaluate(spins)
        return (
            spins,
            momenta + after * tangential(evaluation.known_forces - guiding, spins),
            evaluation,
            guiding,
        )

    def tune(self, means: Sequence[float]) -> None:
        """Adapt the step size to the acceptance of the last move, and the length if it is tuned.

        For thermalisation only.

        As the acceptance is that of a whole number of evaluations, it tells at which time of a step
        it would be the target: the step size is the mean of these (Robbins-Monro).

        The length climbs to where an independent value of log W takes the fewest evaluations
        (Robbins-Monro): these grow as the length, or half as fast while one is
        enough, lest a length wander about. With u = var(change of log W) / (2 var log W) = 1 - rho,
        where rho is the autocorrelation of log W from one trajectory to the next, tau = (2 - u) /
        (2 u); the derivative of u by the length follows from the force along the momentum at a
        trajectory's end. The drift common to all chains is relaxation, not decorrelation, and is
        subtracted. Where hardly a trajectory is accepted it is cut short, lest it start to climb
        beyond the nearest summit.

        A guide that leaves clearly larger forces than there are without it is given up, and the
        step size looked for anew.

        Notes
        -----
        Hoffman, Radul, Sountsov, PMLR 130, 3907 (2021) climb so, by the change of a distance.
        """
        mean = Tuning(*means)
        if self.guide and mean.unguided > MISGUIDED * mean.forces:
            self.misguided, self.tunings = True, 0
            self.step_size = min(self.step_size, CAUTIOUS)
        self.tunings += 1
        gain = 1.0 / (10.0 + self.tunings) ** 0.6
        made = self.time * (LEAPFROG_TIME if self.steps == 1 else 1.0)
        wanted = SENSITIVITY * (mean.acceptance - TARGET_ACCEPTANCE)
        step = self.step_size * math.exp(gain * (math.log(made / self.step_size) + wanted))
        if self.finds_length and mean.likely > HOPELESS:
            self._tune_length(mean, 2.0 * gain)
        elif self.finds_length:
            self.length = max(step, self.shortest)
        self.step_size = min(max(step, self.length / MOST_STEPS), 2.0 * self.length)

    def _tune_length(self, mean: "Tuning[float]", gain: float) -> None:
        jump = mean.change_squared - mean.change * mean.change / mean.likely
        if not jump > 0.0:
            return
        variance = mean.log_weight_squared - mean.log_weight * mean.log_weight
        u = min(jump / (2.0 * max(variance, TINY)), 1.0)
        slope = 2.0 * (
            mean.change_growth - mean.change * mean.growth / mean.likely
        ) / jump * 2.0 / (2.0 - u) - (1.0 if self.steps > 1 else 0.5)
        change = gain * min(max(slope, -1.0), 1.0)
        self.length = min(max(self.length * math.exp(round(change, DIGITS)), self.shortest), LONG)

    def follow(self, other: Move) -> None:
        """Start anew, from the length of another move's trajectories where it is to be found."""
        self.step_size, self.tunings, self.misguided = self._first_step, 0, False
        if self.finds_length and isinstance(other, HMC):
            self.length = max(other.length, self.shortest)

    def start_with_one_step(self, tunings: int) -> None:
        """Start tuning from trajectories of one step, as if after so many tunings.

        A guide's own steps are short; a high count makes the changes small.
        """
        self.step_size, self.tunings = 2.0 * self.length, tunings

    def take_over(self, other: Move) -> None:
        """Go on with the parameters and the random numbers of a move under another density.

        The guide is one's own, whatever has become of the other's.
        """
        if not isinstance(other, HMC):
            raise TypeError(f"{type(other).__name__} has no trajectories")
        self.length, self.step_size, self.tunings = other.length, other.step_size, other.tunings
        self.stream = other.stream

    def describe(self) -> str:
        """Return length and evaluations of a trajectory, where the length was to be found."""
        return f"{self.length:.3g} ({self.steps})" if self.finds_length else ""

    def limits(self) -> dict[str, tuple[float, float]]:
        """Return the ends between which tuning leaves each parameter."""
        short, long = (self.shortest, LONG) if self.finds_length else (self.length, self.length)
        steps = min(self.step_size, short / MOST_STEPS), max(self.step_size, 2.0 * long)
        return {
            "length": (short, long),
            "step_size": steps,
            "misguided": (False, self._guide is not None),
        }

    def state_dict(self) -> dict:
        return {
            "length": self.length,
            "step_size": self.step_size,
            "tunings": self.tunings,
            "misguided": self.misguided,
            "stream": self.stream.state_dict(),
        }

    def load_state_dict(self, state: dict) -> None:
        self.length, self.step_size, self.tunings = (
            state["length"],
            state["step_size"],
            state["tunings"],
        )
        self.misguided = state["misguided"]
        self.stream.load_state_dict(state["stream"])
