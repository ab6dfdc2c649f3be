r"""Changes of log W when few spins change: Green's functions at the Matsubara nodes, and whole Metropolis sweeps.

With the nodes (w_k, a_k), A_k = 1 + i (h - mu) / w_k as in `hpcslmc.weight.blocks`, and g_k = (A_k^{-1})_{PP} between the
sites P of a patch, new spins on P change h by the 2x2 blocks dV_i = (J/2) (S'_i - S_i).sigma and

.. math::
    \log W(S') - \log W(S) &= 2 \sum_k a_k \log|\det(1 + X_k g_k)|, \qquad X_k = (i / w_k) \bigoplus_{i \in P} dV_i \\
    g_k' &= g_k - g_k M_k g_k, \qquad M_k = (1 + X_k g_k)^{-1} X_k

(determinant lemma and Woodbury). For one site X is traceless, so that with x^2 = det X = (J / 2w)^2 (S' - S)^2

.. math:: \det(1 + X g) = 1 + \mathrm{tr}(X g) + x^2 \det g, \qquad M = \frac{X + x^2\, \mathrm{adj}(g)}{\det(1 + X g)}

Weisse, PRL 102, 150604 (2009), has Green's functions for local updates of classical spins in fermions.
"""

import math

import torch
from torch import Tensor

from hpcslmc.hamiltonian import Hamiltonian
from hpcslmc.parallel import World
from hpcslmc.weight.blocks import _spin_blocks
from hpcslmc.weight.nodes import matsubara_nodes

PATCH_SITES = 16
"""A sweep updates the Green's functions of at most so many sites after every spin, those of others later (measured)."""

WORK_BYTES = {"cpu": 2**28, "cuda": 2**33}
"""Size of the matrices of the chains that are swept together."""

DRIFT_LIMIT = 1e-6
"""Largest difference that is put down to rounding between values of one log W that were found on different ways."""


class GreensFunctions:
    r"""Green's functions at K imaginary frequencies: log W of few changed spins, and Metropolis sweeps.

    Parameters
    ----------
    hamiltonian : Hamiltonian
    beta : float
        Inverse temperature in units of 1/t.
    mu : float
        Chemical potential in units of t.
    group : World
        Ranks that share out the frequencies; alone if none is given. They talk once for every site of a sweep.

    Raises
    ------
    UserError
        The group has more ranks than there are frequencies.
    """

    def __init__(self, hamiltonian: Hamiltonian, beta: float, mu: float, group: World | None = None) -> None:
        self.hamiltonian, self.beta, self.mu = hamiltonian, beta, mu
        self.group = group or World()
        nodes = matsubara_nodes(beta, hamiltonian.bound + abs(mu))
        frequencies, weights = nodes.share(self.group)
        self._scale = 1j / torch.as_tensor(frequencies)
        self._weights = torch.as_tensor(weights)
        self._largest_share = -(-len(nodes.frequencies) // self.group.size)

    def patch(self, spins: Tensor, sites: Tensor) -> tuple["Patch", Tensor]:
        """Green's functions between some sites of every chain. Collective over the group.

        Parameters
        ----------
        spins : (chains, sites, 3) float64
        sites : (chains, p) int64
            Different sites, each chain's own.

        Returns
        -------
        patch : Patch
        log_weight : (chains,) float64
            log W of the spins, which comes along.

        Notes
        -----
        K dense factorisations of 2N x 2N matrices, O(K N^3), for all chains at once.
        """
        rest = torch.ones(spins.shape[:2], dtype=torch.int64, device=spins.device).scatter_(1, sites, 0)
        rest = rest.argsort(dim=1, stable=True)[:, sites.shape[1]:]
        matrix, inner = self._matrices(spins, torch.cat((sites, rest), 1)), 2 * sites.shape[1]
        reduced, outside = _eliminate(*_quarters(matrix, inner)) if rest.shape[1] else (matrix, 0.0)
        greens, inside = _invert(reduced)
        return self._patch(greens), self._log_weight(outside + inside, spins.shape[1])

    def sweep(self, spins: Tensor, log_weight: Tensor, order: Tensor, proposals: Tensor,
              thresholds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        r"""One Metropolis test of every site, in turn. Collective over the group.

        Parameters
        ----------
        spins : (chains, sites, 3) float64
        log_weight : (chains,) float64
            log W of the spins, by whatever method.
        order : (chains, sites) int64
            Permutation in which each chain's sites are visited.
        proposals : (chains, sites, 3) float64
            New spins in the order of the visits.
        thresholds : (chains, sites) float64
            A proposal is accepted where its change of log W is larger; in the order of the visits.

        Returns
        -------
        spins : (chains, sites, 3) float64
        log_weight : (chains,) float64
        accepted : (chains, sites) float64
            1 or 0, in the order of the visits.

        Raises
        ------
        FloatingPointError
            log W of the spins given is not ``log_weight``, or that of the spins returned is not the first plus all
            accepted changes, to within ``DRIFT_LIMIT``. No Green's function lives longer than a patch and each is made
            from the spins at that time, so errors do not pile up: the second difference was found below 2e-11
            (N = 16 to 256, J = 1, beta = 20).

        Notes
        -----
        Every site is visited once, so the Green's functions of visited sites are not needed again. With the sites in the
        order of the visits, in two halves,

        .. math:: A = \begin{pmatrix} a & b \\ c & d \end{pmatrix}, \qquad
            (A^{-1})_{11} = (a - b d^{-1} c)^{-1}, \qquad (A'^{-1})_{22} = (d - c\, a'^{-1} b)^{-1}

        where a' has the first half's new spins: eliminate the second half, sweep the first, eliminate the first as it then
        is, sweep the second; each half in the same way, down to patches of ``PATCH_SITES`` sites, where g is updated
        after each site as above. This is the delayed (submatrix) update carried through all sizes, but with
        elimination, whose Schur complements all have a Hermitian part of at least 1, in place of Woodbury.

        (7/9) (2N)^3 complex multiplications and additions per frequency, as much as 2.3 LU factorisations, where one inverse
        with a Woodbury update of all of it for every patch takes 3 (2N)^3: O(K N^3), against O(N^4) by one
        diagonalisation for every site. Memory is 2 K (2N)^2 complex numbers a chain; chains are swept in batches
        of ``WORK_BYTES``, or one by one.
        """
        size = self._largest_share * 2 * (2 * spins.shape[1]) ** 2 * 16
        batch = max(1, WORK_BYTES["cpu" if spins.device.type == "cpu" else "cuda"] // size)
        batches = zip(*(x.split(batch) for x in (spins, log_weight, order, proposals, thresholds)), strict=True)
        return tuple(torch.cat(parts) for parts in zip(*(self._sweep(*each) for each in batches), strict=True))

    def _sweep(self, spins: Tensor, log_weight: Tensor, order: Tensor, proposals: Tensor,
               thresholds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        place = order[..., None].expand(-1, -1, 3)
        old = spins.gather(1, place)
        sweep = _Sweep(self, proposals - old, thresholds)
        before, after = (self._log_weight(x, spins.shape[1]) for x in sweep.run(self._matrices(spins, order), 0))
        drift = torch.maximum((before - log_weight).abs(), (after - before - sweep.change).abs()).max()
        if not drift <= DRIFT_LIMIT:
            raise FloatingPointError(f"log W as carried along and as computed afresh differ by {float(drift):.1e}, more than "
                                     f"{DRIFT_LIMIT:g}: rounding errors of Green's functions, or two different weights.")
        kept = torch.where(sweep.accepted[..., None] > 0.0, proposals, old)
        return spins.scatter(1, place, kept), after, sweep.accepted

    def _patch(self, greens: Tensor) -> "Patch":
        return Patch(greens, self._scale.to(greens.device), self._weights.to(greens.device), self.hamiltonian.J, self.group)

    def _matrices(self, spins: Tensor, order: Tensor) -> Tensor:
        """A_k, (chains, K, 2 sites, 2 sites) complex128, with the sites of each chain in that order (chains, sites)."""
        index = (2 * order[..., None] + torch.arange(2, device=order.device)).flatten(1)
        chain = torch.arange(len(order), device=order.device)[:, None, None]
        h = self.hamiltonian.dense(spins)[chain, index[:, :, None], index[:, None, :]]
        h.diagonal(dim1=1, dim2=2).sub_(self.mu)
        matrices = self._scale.to(h.device)[:, None, None] * h[:, None]
        matrices.diagonal(dim1=2, dim2=3).add_(1.0)
        return matrices

    def _log_weight(self, log_det: Tensor, sites: int) -> Tensor:
        """log W (chains,) of log|det A_k| (chains, K)."""
        total = self.group.sum_tensor(log_det @ self._weights.to(log_det.device))
        return sites * (self.beta * self.mu + 2.0 * math.log(2.0)) + 2.0 * total


class Patch:
    """Green's functions between p sites of every chain, as they are after the changes accepted so far.

    Attributes
    ----------
    greens : (chains, K, 2p, 2p) complex128
        (A_k^-1) at these sites, for the frequencies of this rank.
    """

    def __init__(self, greens: Tensor, scale: Tensor, weights: Tensor, J: float, group: World) -> None:
        self.greens, self._scale, self._weights, self._J, self._group = greens, scale, weights, J, group

    def blocks(self, turns: Tensor) -> Tensor:
        """X_k, (chains, K, p, 2, 2) complex128, of turns S' - S (chains, p, 3)."""
        x, y, z = (0.5 * self._J * turns).unbind(-1)
        dv = torch.stack((torch.complex(z, 0.0 * z), torch.complex(x, -y), torch.complex(x, y), torch.complex(-z, 0.0 * z)), -1)
        return self._scale[:, None, None, None] * dv.unflatten(-1, (2, 2))[:, None]

    def change(self, turns: Tensor) -> Tensor:
        """log W(S') - log W(S), (chains,), if all sites turn at once by S' - S (chains, p, 3). Collective, O(K p^3)."""
        return self._sum(torch.linalg.slogdet(self._one_plus(self.blocks(turns)))[1])

    def accept(self, turns: Tensor, accept: Tensor) -> None:
        """Let all sites of the chains with ``accept`` (chains,) turn at once. O(K p^3)."""
        blocks = self.blocks(turns * accept[:, None, None])
        spread = torch.zeros_like(self.greens)
        _spin_blocks(spread).copy_(blocks)
        self.greens -= self.greens @ torch.linalg.solve(self._one_plus(blocks), spread) @ self.greens

    def visit(self, site: int, block: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
        """Metropolis test of one site; afterwards ``greens`` holds for the sites behind it only. Collective, O(K p^2).

        Parameters
        ----------
        site : int
            Of the patch, the same for all chains.
        block : (chains, K, 2, 2) complex128
            X_k.
        threshold : (chains,) float64

        Returns
        -------
        accepted : (chains,) float64
        change : (chains,) float64
            Of log W; 0 where the proposal was rejected.
        """
        here, behind = slice(2 * site, 2 * site + 2), slice(2 * site + 2, None)
        g = self.greens[..., here, here]
        adjugate = torch.stack((g[..., 1, 1], -g[..., 0, 1], -g[..., 1, 0], g[..., 0, 0]), -1).unflatten(-1, (2, 2))
        square = -(block[..., 0, 0].square() + block[..., 0, 1] * block[..., 1, 0])
        minor = (g[..., 0, :] * adjugate[..., :, 0]).sum(-1)
        determinant = 1.0 + (block * g.mT).sum((-2, -1)) + square * minor
        change = self._sum(determinant.abs().log())
        accepted = (threshold < change).double()
        update = (block + square[..., None, None] * adjugate) * (accepted[:, None] / determinant)[..., None, None]
        self.greens[..., behind, behind] -= self.greens[..., behind, here] @ (update @ self.greens[..., here, behind])
        return accepted, accepted * change

    def _one_plus(self, blocks: Tensor) -> Tensor:
        product = (blocks @ self.greens.unflatten(-2, (-1, 2))).flatten(-3, -2)
        product.diagonal(dim1=-2, dim2=-1).add_(1.0)
        return product

    def _sum(self, log_det: Tensor) -> Tensor:
        return 2.0 * self._group.sum_tensor(log_det @ self._weights)


class _Sweep:
    """What a sweep has found so far: ``accepted`` (chains, sites) and the sum of accepted changes of log W (chains,)."""

    def __init__(self, functions: GreensFunctions, turns: Tensor, thresholds: Tensor) -> None:
        self._functions, self._turns, self._thresholds = functions, turns, thresholds
        self.accepted = torch.zeros_like(thresholds)
        self.change = torch.zeros_like(thresholds[:, 0])

    def run(self, matrix: Tensor, first: int) -> tuple[Tensor, Tensor]:
        """Visit the sites first, first + 1, ... whose Schur complement is the matrix (chains, K, 2 sites, 2 sites), which is spent.

        Returns its log|det| (chains, K) with the spins before and after.
        """
        sites = matrix.shape[-1] // 2
        if sites <= PATCH_SITES:
            return self._visit(matrix, slice(first, first + sites))
        half = sites // 2
        a, b, c, d = _quarters(matrix, 2 * half)
        reduced, outside = _eliminate(a, b, c, d)
        before, _ = self.run(reduced, first)
        mine = slice(first, first + half)
        _spin_blocks(a).add_(self._functions._patch(a).blocks(self._turns[:, mine] * self.accepted[:, mine, None]))
        reduced, inside = _eliminate(d, c, b, a)
        _, after = self.run(reduced, first + half)
        return before + outside, inside + after
