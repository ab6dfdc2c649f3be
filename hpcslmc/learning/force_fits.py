"""Fits of several models to the exact forces of the same data."""

from collections.abc import Callable, Hashable

from hpcslmc.effective.model import ForceFitted
from hpcslmc.learning.data import DataSet
from hpcslmc.learning.least_squares import (
    Configurations,
    Equations,
    Selection,
    choose_terms,
    equations,
    fitted_configurations,
    no_terms,
)
from hpcslmc.parallel.world import World


class ForceFits:
    """Fits of models to the exact forces of the same data.

    What the fits of all models of the same terms follow from is worked out once, until there are
    more forces.

    Parameters
    ----------
    data : DataSet
    world : World
    """

    def __init__(self, data: DataSet, world: World) -> None:
        self.data, self.world = data, world
        self._known: dict[Hashable, Equations] = {}

    def draws(self, sites: int) -> int:
        """Return of how many configurations of each training chain the forces are fitted."""
        return -(-fitted_configurations(sites) // self.data.train_chains_total)

    def fit(
        self,
        model: ForceFitted,
        replayed: Callable[[], list[tuple[ForceFitted, Configurations]]],
        least: int,
    ) -> Selection:
        """Fit a model to few configurations of the training chains, and choose terms. Collective.

        The terms are judged by log W of all chains, to which nothing is fitted.

        Parameters
        ----------
        model : ForceFitted
        replayed : callable
            Gives configurations of other runs to fit to, with the model on their lattice.
        least : int
            As ``fit_to_forces`` has it.
        """
        if not len(self.data.with_forces):  # log W is constant, as without a coupling J
            return no_terms(model, least)
        key = model.terms, len(self.data.with_forces)
        if key not in self._known:
            own = self.data.spread(self.data.train_chains, self.draws(model.sites))
            judging = self.data.spread(self.data.chains, len(self.data))
            training = [(model, own), *replayed()]
            self._known[key] = equations(model, training, judging, self.world)
        return choose_terms(model, self._known[key], least)
