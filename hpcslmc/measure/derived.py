r"""Quantities derived from the means of several observables.

At temperature T and chemical potential mu the spins have the weight W(S), with d log W / d beta =
-N (e - mu n) and d log W / d mu = beta N n, where e and n are energy and electrons per site at
fixed spins. Hence for any A(S; beta, mu)

.. math::
    \frac{d\langle A \rangle}{d\beta} = \Big\langle \frac{\partial A}{\partial\beta} \Big\rangle
        - N \left[\langle A (e - \mu n) \rangle
        - \langle A \rangle \langle e - \mu n \rangle\right], \qquad
    \frac{d\langle A \rangle}{d\mu} = \Big\langle \frac{\partial A}{\partial\mu} \Big\rangle
        + \beta N \left[\langle A n \rangle - \langle A \rangle \langle n \rangle\right]

The explicit derivatives are the electrons' own fluctuations at fixed spins, and need all
eigenvalues of h(S).
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping

import numpy as np

from hpcslmc.measure.momenta import name_origin, step_size
from hpcslmc.physics.lattice import Lattice

Means = Mapping[str, np.ndarray]


class Derived(ABC):
    """A function of means of observables.

    Parameters
    ----------
    lattice : Lattice
    beta, mu : float

    Attributes
    ----------
    name, label : str
        Name in results.h5, and as a physicist writes it, with its unit.
    inputs : tuple of str
        Observables whose means it needs.
    negative : str
        Why there is no estimate where the mean is negative; empty where it may be.
    """

    name: str
    label: str
    inputs: tuple[str, ...]
    negative = ""

    def __init__(self, lattice: Lattice, beta: float, mu: float) -> None:
        self.lattice, self.beta, self.mu = lattice, beta, mu
        self.label = name_origin(self.label, lattice)

    @abstractmethod
    def value(self, means: Means) -> np.ndarray:
        """(...,) of the means (...,) of its inputs by name."""


class GrandPotential(Derived):
    """-T <log W> / N, the electrons' grand potential at fixed spins, averaged over the spins.

    Not -T log Z / N: the spins' entropy is not in it.
    """

    name, label, inputs = "grand_potential", "electrons' grand potential / N [t]", ("log_weight",)

    def value(self, means: Means) -> np.ndarray:
        return -means["log_weight"] / self.beta


class SpecificHeat(Derived):
    r"""Specific heat per site at fixed mu, C = d<e>/dT.

    .. math:: C = \beta^2 \Big\{ N \left[\mathrm{cov}(e, e) - \mu\, \mathrm{cov}(e, n)\right]
        + \Big\langle \frac1N \sum_n E_n (E_n - \mu) f_n (1 - f_n) \Big\rangle \Big\}

    The first part comes from the spins, the second from the electrons at fixed spins. The spins are
    classical unit vectors without energy of their own: they bring no constant. At mu = 0 this is
    the usual T ds/dT; elsewhere that is d<e - mu n>/dT. Electrons come and go as T changes, where
    mu = 0 does not hold their number: for a given filling see ``SpecificHeatAtFixedDensity``.
    """

    name, label = "specific_heat", "specific heat d<e>/dT / N at fixed mu"
    inputs: tuple[str, ...] = (
        "energy",
        "density",
        "energy2",
        "energy_density",
        "energy_fluctuation",
    )

    def value(self, means: Means) -> np.ndarray:
        covariance = means["energy2"] - means["energy"] ** 2
        covariance = covariance - self.mu * (
            means["energy_density"] - means["energy"] * means["density"]
        )
        return self.beta**2 * (self.lattice.sites * covariance + means["energy_fluctuation"])


class SpecificHeatAtFixedDensity(Derived):
    r"""Specific heat per site at fixed electrons per site, C_n = d<e>/dT at fixed <n>.

    .. math:: C_n = \beta^2 \Big[ V_{kk} - \frac{V_{kn}^2}{V_{nn}} \Big], \qquad
        V_{ab} = N\, \mathrm{cov}(a, b) + \frac1N \langle \mathrm{cov}(A, B)_S \rangle, \qquad k
        = e - \mu n

    The fluctuations V of the whole system are those of the spins and of the electrons at fixed
    spins. The first term is
    T ds/dT = d<k>/dT at fixed mu, the second what mu has to follow for the density to stay:
    (d<n>/dT)^2 T / (d<n>/d mu). C_n = C at half
    filling (mu = 0 on even sides), where d<n>/dT = 0. At fixed number of electrons rather than
    their mean it differs by O(1/N).
    """

    name, label = "specific_heat_fixed_density", "specific heat d<e>/dT / N at fixed n"
    inputs: tuple[str, ...] = (
        "energy",
        "density",
        "energy2",
        "energy_density",
        "density2",
        "energy_fluctuation",
        "energy_number_fluctuation",
        "number_fluctuation",
    )

    def value(self, means: Means) -> np.ndarray:
        mu, sites = self.mu, self.lattice.sites
        ee = means["energy2"] - means["energy"] ** 2
        en = means["energy_density"] - means["energy"] * means["density"]
        nn = means["density2"] - means["density"] ** 2
        # at fixed spins: cov(E, E - mu N), cov(E, N), var(N)
        ek_electrons, en_electrons, nn_electrons = (means[name] for name in self.inputs[-3:])
        kk = (
            sites * (ee - 2.0 * mu * en + mu**2 * nn)
            + ek_electrons
            - mu * (en_electrons - mu * nn_electrons)
        )
        kn = sites * (en - mu * nn) + en_electrons - mu * nn_electrons
        return self.beta**2 * (kk - kn**2 / (sites * nn + nn_electrons))


class Compressibility(Derived):
    r"""Compressibility d<n>/d mu at fixed T (n^2 times the compressibility of thermodynamics).

    .. math::

        \frac{d\langle n \rangle}{d\mu}
            = \beta \Big[ N\, \mathrm{cov}(n, n)
              + \Big\langle \frac1N \sum_n f_n (1 - f_n) \Big\rangle \Big]
    """

    name, label, inputs = (
        "compressibility",
        "compressibility dn/dmu [1/t]",
        ("density", "density2", "number_fluctuation"),
    )

    def value(self, means: Means) -> np.ndarray:
        variance = means["density2"] - means["density"] ** 2
        return self.beta * (self.lattice.sites * variance + means["number_fluctuation"])


class UniformSusceptibility(Derived):
    """chi = beta N <|m|^2>, summed over the three spin components; each responds with chi / 3.

    Nothing is subtracted: <m> = 0 on a finite lattice, by O(3) symmetry. beta for free spins.
    """

    name, label, inputs = "susceptibility_uniform", "susceptibility at (0,0) [1/t]", ("m2_uniform",)

    def value(self, means: Means) -> np.ndarray:
        return self.beta * self.lattice.sites * means[self.inputs[0]]


class StaggeredSusceptibility(UniformSusceptibility):
    """The same at (pi, pi)."""

    name, label, inputs = (
        "susceptibility_staggered",
        "susceptibility at (pi,pi) [1/t]",
        ("m2_staggered",),
    )


class UniformBinder(Derived):
    r"""Binder ratio of a three-component order, 0 for Gaussian fluctuations and 1 with order.

    .. math:: U = \frac52 - \frac32 \frac{\langle |m|^4 \rangle}{\langle |m|^2 \rangle^2}

    In terms of the other convention V = 1 - <m^4> / (3 <m^2>^2), from 4/9 to 2/3: U = (9/2) V - 2.
    1/N for free spins.

    Notes
    -----
    Binder, Z. Phys. B 43, 119 (1981).
    """

    name, label, inputs = "binder_uniform", "Binder ratio at (0,0)", ("m2_uniform", "m4_uniform")

    def value(self, means: Means) -> np.ndarray:
        m2, m4 = (means[name] for name in self.inputs)
        return 2.5 - 1.5 * m4 / m2**2


class StaggeredBinder(UniformBinder):
    """The same at (pi, pi)."""

    name, label, inputs = (
        "binder_staggered",
        "Binder ratio at (pi,pi)",
        ("m2_staggered", "m4_staggered"),
    )


class UniformCorrelationLength(Derived):
    r"""Second-moment correlation length, in lattice constants.

    .. math:: \xi = \frac{1}{2 \sin(\pi / L)} \sqrt{\frac{S(Q)}{S(Q + 2\pi/L)} - 1}

    with Q the momentum of the order and L the longer side of a square lattice. In general, in units
    of the Cartesian coordinates, 2 sin(pi / L) is (2 / r) sin(|b| r / 2 L), with r the distance of
    nearest neighbours and b the reciprocal vectors whose steps b / L are the smallest. Where S is
    larger next to Q than at Q there is no such length: the root is
    continued as an odd function, so that bins of a jackknife in which it happens still count,
    and a negative mean is no estimate.

    Notes
    -----
    Cooper, Freedman, Preston, Nucl. Phys. B 210, 210 (1982).
    """

    name, label = "correlation_length_uniform", "correlation length at (0,0) [a]"
    inputs = ("m2_uniform", "m2_next_uniform")
    negative = "S(q) has no peak there: it is not larger, within its error, than next to it"

    def value(self, means: Means) -> np.ndarray:
        peak, beside = (means[name] for name in self.inputs)
        excess = peak / beside - 1.0
        return np.sign(excess) * np.sqrt(np.abs(excess)) / step_size(self.lattice)


class StaggeredCorrelationLength(UniformCorrelationLength):
    """The same at (pi, pi)."""

    name, label = "correlation_length_staggered", "correlation length at (pi,pi) [a]"
    inputs = ("m2_staggered", "m2_next_staggered")


QUANTITIES: tuple[type[Derived], ...] = (
    GrandPotential,
    SpecificHeat,
    SpecificHeatAtFixedDensity,
    Compressibility,
    StaggeredSusceptibility,
    UniformSusceptibility,
    StaggeredBinder,
    UniformBinder,
    StaggeredCorrelationLength,
    UniformCorrelationLength,
)


def main_order(measured: Collection[str]) -> str:
    """Return the order that summaries show most of: staggered where it is measured, or uniform."""
    return "staggered" if "m2_staggered" in measured else "uniform"
