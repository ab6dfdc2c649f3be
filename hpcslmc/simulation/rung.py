"""All chains of a rank at one temperature, and the units of work that carry them on.

A job at one temperature is a ladder of one rung.
"""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from hpcslmc.density import Evaluation
from hpcslmc.effective import Physics
from hpcslmc.measure.bins import Bins
from hpcslmc.measure.observables import Needs
from hpcslmc.measure.profiles import ProfileSums
from hpcslmc.sampling import Chains, Move, Step
from hpcslmc.simulation.build import Place, Setting, build, required


class NotFinite(NamedTuple):
    """Measurement of a chain that is not a number.

    Attributes
    ----------
    rung : Rung
    name : str
        Of the observable or profile.
    chain : int
        Global number of the first chain.
    sample : int
    """

    rung: "Rung"
    name: str
    chain: int
    sample: int


class Rung:
    """The chains of this rank at one temperature, and the units of work that carry them on.

    Parameters
    ----------
    setting : Setting
    number : int
        Its place among the job's temperatures.
    temperature, mu : float

    Attributes
    ----------
    place : Place
        The temperature, and the random numbers of its chains.
    weight, exact, guided, learning, observables, electrons
        As ``Parts`` has them.
    chains : Chains
        They start from random spins, which are evaluated when they are first asked for.
    measured : (chains, sites, 3) float64
        The chains, or images of them, as the last sample was measured.
    bins : Bins
    profiles : list of ProfileSums
    """

    measured: Tensor

    def __init__(self, setting: Setting, number: int, temperature: float, mu: float) -> None:
        self.setting, self.number = setting, number
        self._build(temperature, mu)
        self._chains: Chains | None = None
        self._told: set[str] = set()  # what was not finite, which is said once
        self.bins = Bins(
            [*setting.intervals, "acceptance"],
            setting.ranks.block.count,
            setting.job.sampling.bin_size,
            setting.intervals,
        )

    def _build(self, temperature: float, mu: float) -> None:
        self.place = Place(self.setting, self.number, temperature, mu)
        parts = build(self.place)
        self.weight = parts.weight
        self.exact = parts.exact
        self.guided = parts.guided
        self.learning = parts.learning
        self.electrons = parts.electrons
        self.observables = parts.observables
        count = self.setting.ranks.block.count
        self.profiles = [ProfileSums(profile, count) for profile in parts.profiles]

    @property
    def temperature(self) -> float:
        """The temperature of the chains."""
        return self.place.temperature

    @property
    def mu(self) -> float:
        """The chemical potential of the chains."""
        return self.place.mu

    @property
    def physics(self) -> Physics:
        """Everything that log W depends on here, besides the lattice."""
        return self.place.physics

    def set_ensemble(self, temperature: float, mu: float) -> None:
        """Go on at another temperature or chemical potential, before anything was learned.

        Everything is built anew but the chains, and the exact move's parameters and random numbers.
        """
        before = self.exact
        self._build(temperature, mu)
        self.exact.take_over(before)
        if self._chains is not None:
            evaluation = self.exact.evaluate(self._chains.spins)
            self._chains = replace(self._chains, evaluation=evaluation, effective=None)

    @property
    def chains(self) -> Chains:
        """The chains of this rank at this temperature."""
        if self._chains is None:
            spins = self.place.stream("start").directions(self.setting.lattice.sites)
            unknown = torch.full((len(spins),), torch.nan, dtype=torch.float64)
            self._chains = Chains(spins, self.exact.evaluate(spins), unknown)
        return self._chains

    @chains.setter
    def chains(self, chains: Chains) -> None:
        self._chains = chains

    @property
    def sampler(self) -> Move:
        """The move that sampling makes most of."""
        return self.guided or (self.learning.slmc.inner if self.learning else self.exact)

    def thermalise(self) -> Tensor:
        """Make one exact move of every chain.

        Returns
        -------
        (chains, numbers) float64
            Statistics whose means over all chains of all ranks ``exact.tune`` takes.
        """
        return self._move_once(self.exact)

    def begin_tuning(self) -> None:
        """Start guided trajectories from what exact and inner moves have found."""
        guided = required(self.guided)
        guided.follow(self.exact)
        guided.follow(required(self.learning).slmc.inner)
        guided.start_with_one_step(self.exact.tunings)

    def tune(self) -> Tensor:
        """Make one guided move of every chain; returns as ``thermalise``, for ``guided.tune``."""
        guided = required(self.guided)
        if self.chains.evaluation.forces is None:
            self.chains = replace(self.chains, evaluation=guided.evaluate(self.chains.spins))
        return self._move_once(guided)

    def _move_once(self, move: Move) -> Tensor:
        step = move.move(self.chains.spins, self.chains.evaluation)
        self._store(step, step.acceptance)
        return step.tuning

    def move(self) -> None:
        """Advance every chain by one sample.

        That is one self-learning proposal, or ``sampling.first_moves`` exact moves.
        """
        sampling, chains = self.setting.job.sampling, self.chains
        if sampling.method == "slmc":
            proposal = required(self.learning).slmc.move(
                chains.spins, chains.evaluation, effective=chains.effective
            )
            self._store(proposal, proposal.acceptance, proposal.effective)
            return
        move, spins, evaluation = self.guided or self.exact, chains.spins, chains.evaluation
        acceptance = torch.zeros_like(evaluation.log_weight)
        for _ in range(sampling.first_moves):
            step = move.move(spins, evaluation)
            spins, evaluation = step.spins, step.evaluation
            acceptance += step.acceptance / sampling.first_moves
        self._store(step, acceptance)

    def _store(self, step: Step, acceptance: Tensor, effective: Evaluation | None = None) -> None:
        """Store the chains after moves, the last of which was ``step``.

        Energies not computed by the moves are nan; ``complete_energies`` fills them.
        """
        moved = self.chains.moved(step.spins, step.evaluation, acceptance > 0.0)
        self.chains = replace(moved, acceptance=acceptance, effective=effective)

    def complete_energies(self) -> None:
        """Compute energy and density of the chains where they are not known."""
        chains, evaluation = self.chains, self.chains.evaluation
        if chains.complete:
            return
        energy, density = required(evaluation.energy).clone(), required(evaluation.density).clone()
        unknown = energy.isnan().nonzero()[:, 0]  # indices, not a mask: a device waits once
        if len(unknown):
            fresh = self.weight.with_energy(chains.spins[unknown], evaluation.rows(unknown))
            energy[unknown], density[unknown] = required(fresh.energy), required(fresh.density)
            evaluation = replace(evaluation, energy=energy, density=density)
        self.chains = replace(chains, evaluation=evaluation, complete=True)

    def measure(self, sample: int) -> list[NotFinite]:
        """Measure sample number ``sample`` (1, 2, ...). Collective over the group.

        Returns
        -------
        list of NotFinite
            Observables and profiles that are not finite for the first time in this rank's chains.
        """
        names = set(self.bins.due)
        due = [o for o in self.observables if o.name in names]
        if any(o.needs is Needs.ENERGIES for o in due):
            self.complete_energies()
        shown = self.chains.spins, self.chains.evaluation
        if self.learning and self.learning.images:
            shown = self.learning.images.of(*shown)
        self.measured = shown[0]
        evaluation = self.electrons.at(*shown)
        values = {o.name: o.measure(self.measured, evaluation) for o in due}
        strange = self.bins.add(values | {"acceptance": self.chains.acceptance})
        for sums in self.profiles:
            strange |= sums.add(sample, self.measured, evaluation)
        first = {name: chain for name, chain in strange.items() if name not in self._told}
        self._told |= first.keys()
        block = self.setting.ranks.block
        return [NotFinite(self, name, block.first + row, sample) for name, row in first.items()]

    def chain_state(self) -> dict:
        """Return the state of each chain: arrays with the chain as first axis."""
        evaluation = vars(self.chains.evaluation)
        state = {
            "spins": self.chains.spins,
            "evaluation": {name: value for name, value in evaluation.items() if value is not None},
            "bins": self.bins.chain_state(),
            **{f"profile_{sums.profile.name}": sums.chain_state() for sums in self.profiles},
        }
        return (
            state | {"data": data}
            if self.learning and (data := self.learning.data.state_dict())
            else state
        )

    def state_dict(self) -> dict:
        """Return the state that all chains share."""
        state = {
            "temperature": self.temperature,
            "mu": self.mu,
            "exact": self.exact.state_dict(),
            "bins": self.bins.state_dict(),
            **{f"profile_{sums.profile.name}": sums.state_dict() for sums in self.profiles},
        }
        if self.learning:
            state |= {
                "learning": self.learning.state_dict(),
                "slmc": self.learning.slmc.state_dict(),
                "models": {
                    str(level): dict(model.state_dict())
                    for level, model in enumerate(self.learning.models)
                },
            }
        if self.guided:
            state["guided"] = self.guided.state_dict()
        return state

    def load(self, chain_state: dict, state: dict) -> None:
        """Restore both states, of the rung's own temperature and chemical potential."""
        device = self.setting.ranks.device
        known = {key: value.to(device) for key, value in chain_state["evaluation"].items()}
        unknown = torch.full((self.setting.ranks.block.count,), torch.nan, dtype=torch.float64)
        self.chains = Chains(chain_state["spins"].to(device), Evaluation(**known), unknown)
        self.exact.load_state_dict(state["exact"])
        self.bins.load(chain_state["bins"], state["bins"])
        for sums in self.profiles:
            name = f"profile_{sums.profile.name}"
            sums.load(chain_state[name], state[name])
        if self.learning:
            for level, model in enumerate(self.learning.models):
                model.load_state_dict(state["models"][str(level)])
            self.learning.slmc.load_state_dict(state["slmc"])
            self.learning.data.load_state_dict(
                {key: value.to(device) for key, value in chain_state.get("data", {}).items()}
            )
            self.learning.load_state_dict(state["learning"])
        if self.guided:
            self.guided.load_state_dict(state["guided"])
