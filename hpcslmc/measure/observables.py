"""Observables of one configuration, batched over chains."""

from typing import Protocol

import torch
from torch import Tensor

from hpcslmc.evaluation import Evaluation
from hpcslmc.lattice import Lattice


class Observable(Protocol):
    """A number per chain.

    Attributes
    ----------
    name : str
        Name in results.h5.
    label : str
        As a physicist writes it, with its unit.
    """

    name: str
    label: str

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        """(chains,) float64 of spins (chains, sites, 3) and their exact evaluation."""
        ...


class LogWeight:
    """log W / N, the logarithm of the fermion weight per site; -beta times the grand potential per site."""

    name, label = "log_weight", "log W / N"

    def __init__(self, lattice: Lattice, device: torch.device | str) -> None:
        self.sites = lattice.sites

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        return evaluation.log_weight / self.sites


class Energy:
    """Electronic energy per site, sum_n f(E_n) E_n / N."""

    name, label = "energy", "electronic energy / N [t]"

    def __init__(self, lattice: Lattice, device: torch.device | str) -> None:
        pass

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        return evaluation.energy


class ElectronDensity:
    """Electrons per site, sum_n f(E_n) / N, between 0 and 2."""

    name, label = "density", "electrons / N"

    def __init__(self, lattice: Lattice, device: torch.device | str) -> None:
        pass

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        return evaluation.density


class Magnetisation2:
    """|m_0|^2 with m_q = (1/N) sum_i exp(i q.r_i) S_i; 1/N for free spins."""

    name, label = "m2_uniform", "|m(0,0)|^2"

    def __init__(self, lattice: Lattice, device: torch.device | str) -> None:
        pass

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        return spins.mean(1).square().sum(-1)


class StaggeredMagnetisation2:
    """|m_(pi,pi)|^2 with m_q = (1/N) sum_i exp(i q.r_i) S_i; 1 in the Neel state, 1/N for free spins."""

    name, label = "m2_staggered", "|m(pi,pi)|^2"

    def __init__(self, lattice: Lattice, device: torch.device | str) -> None:
        self.sign = torch.as_tensor(lattice.staggered_sign, device=device)[:, None]

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        return (self.sign * spins).mean(1).square().sum(-1)


class NeighbourCorrelation:
    """S_i . S_j averaged over the 2N nearest-neighbour bonds; 0 for free spins."""

    name, label = "nn_correlation", "<S_i.S_j> nearest"

    def __init__(self, lattice: Lattice, device: torch.device | str) -> None:
        self.neighbours = torch.as_tensor(lattice.neighbours[:, :2], device=device)

    def measure(self, spins: Tensor, evaluation: Evaluation) -> Tensor:
        return (spins[:, :, None, :] * spins[:, self.neighbours]).sum(-1).mean((1, 2))


def observables(lattice: Lattice, device: torch.device | str = "cpu") -> list[Observable]:
    """All observables that exist on the lattice; |m_(pi,pi)|^2 needs two even lengths."""
    classes = [LogWeight, Energy, ElectronDensity, StaggeredMagnetisation2, Magnetisation2, NeighbourCorrelation]
    if not lattice.has_staggered_momentum:
        classes.remove(StaggeredMagnetisation2)
    return [observable(lattice, device) for observable in classes]
