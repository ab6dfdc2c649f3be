r"""Metropolis sweeps of the exact weight by Green's functions at the Matsubara nodes.

With the nodes (w_k, a_k), A_k = 1 + i (h - mu) / w_k as in `hpcslmc.weight.blocks`, and g_k =
(A_k^{-1})_{PP} between the sites P of a patch, new spins on P change h by the 2x2 blocks dV_i =
V(S'_i) - V(S_i) and

.. math::
    \log W(S') - \log W(S) &= 2 \sum_k a_k \log|\det(1 + X_k g_k)|, \qquad X_k = (i / w_k)
    \bigoplus_{i \in P} dV_i \\ g_k' &= g_k - g_k M_k g_k, \qquad M_k = (1 + X_k g_k)^{-1} X_k

(determinant lemma and Woodbury). For one site X is traceless, so that with x^2 = det X = (J / 2w)^2
(S' - S)^2

.. math::

    \det(1 + X g) = 1 + \mathrm{tr}(X g) + x^2 \det g, \qquad
        M = \frac{X + x^2\, \mathrm{adj}(g)}{\det(1 + X g)}

Weisse, PRL 102, 150604 (2009), has Green's functions for local updates of classical spins in
fermions.
"""

import math

import torch
from torch import Tensor

from hpcslmc.parallel.world import World
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.physics.hamiltonian import spin_blocks
from hpcslmc.sampling.classical import ClassicalWeight, SweepChanges
from hpcslmc.weight.nodes import model_nodes

PATCH_SITES = 8
"""Most sites whose Green's functions a sweep updates after every spin.

2 to 16 took the same time within the noise.
"""

WORK_BYTES = {"cpu": 2**26, "accelerator": 2**33}
"""Most elements of the matrices of the chains that are swept together.

2^24 to 2^28 took the same time on a core.
"""

DRIFT_LIMIT = 1e-6
"""Largest difference between two values of the same log W that is put down to rounding."""


class GreensFunctions:
    r"""Green's functions at K imaginary frequencies, for Metropolis sweeps.

    Parameters
    ----------
    ensemble : Ensemble
        Its Hamiltonian on the device where the spins will be.
    group : World
        Ranks that share out the frequencies of all chains; alone if none is given. They talk at
        every site of a sweep.
    """

    def __init__(self, ensemble: Ensemble, group: World | None = None) -> None:
        self.ensemble = ensemble
        self.group = group or World()
        self._classical = (
            ClassicalWeight(ensemble.classical, ensemble.beta) if ensemble.classical else None
        )
        nodes, device = model_nodes(ensemble), ensemble.hamiltonian.device
        mine = slice(self.group.rank, None, self.group.size)
        self._scale = 1j / torch.as_tensor(nodes.frequencies[mine], device=device)
        self._weights = torch.as_tensor(nodes.weights[mine], device=device)
        self._largest_share = math.ceil(len(nodes.frequencies) / self.group.size)

    def sweep(
        self,
        spins: Tensor,
        log_weight: Tensor,
        order: Tensor,
        proposals: Tensor,
        thresholds: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        r"""Test a new spin of every site by Metropolis, in turn. Collective over the group.

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
            log W of the spins given is not ``log_weight``, or that of the spins returned is not the
            first plus all accepted changes, to within ``DRIFT_LIMIT``. Every Green's function is
            made from the spins as they are then and lives no longer than its patch, so that errors
            do not pile up: the second difference was below 4e-12 at beta = 20, J = 1 and below
            3e-11 up to beta = 100, J = 16 (4 to 256 sites).

        Notes
        -----
        Every site is visited once, so nothing about visited sites has to be kept up to date. With
        the sites in the order of the visits, in two halves,

        .. math:: A = \begin{pmatrix} a & b \\ c & d \end{pmatrix}, \qquad
            (A^{-1})_{11} = (a - b d^{-1} c)^{-1}, \qquad (A'^{-1})_{22} = (d - c\, a'^{-1} b)^{-1}

        where a' has the first half's new spins: eliminate the second half, sweep the first,
        eliminate the first as it then is, sweep the second; each half in the same way, down to
        patches of ``PATCH_SITES`` sites, where g is updated after every site. These are delayed
        (submatrix) updates on all scales, by elimination, whose Schur complements all have a
        Hermitian part of at least 1, rather than by Woodbury.

        To leading order (7/9) (2N)^3 complex multiplications and additions per frequency, as much
        as 2.3 LU factorisations; one inverse and a Woodbury update of all of it after every patch
        would take 3 (2N)^3. O(K N^3), against O(N^4) by one diagonalisation for every site. Memory
        is at most 2 K (2N)^2 complex numbers a chain; chains are swept in batches that fit
        ``WORK_BYTES``, or one by one.
        """
        one = 2 * self._largest_share * (2 * spins.shape[1]) ** 2 * 16
        batch = max(1, WORK_BYTES["cpu" if spins.device.type == "cpu" else "accelerator"] // one)
        batches = zip(
            *(x.split(batch) for x in (spins, log_weight, order, proposals, thresholds)),
            strict=True,
        )
        swept, log_weights, accepted = zip(*(self._sweep(*each) for each in batches), strict=True)
        return torch.cat(swept), torch.cat(log_weights), torch.cat(accepted)

    def _sweep(
        self,
        spins: Tensor,
        log_weight: Tensor,
        order: Tensor,
        proposals: Tensor,
        thresholds: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        place = order[..., None].expand(-1, -1, 3)
        old = spins.gather(1, place)
        changes = None
        if self._classical is not None:
            changes = SweepChanges(self._classical, spins, order, proposals)
            log_weight = log_weight - self._classical.log_weight(spins)
        sweep = _Sweep(self, proposals - old, thresholds, order, changes)
        det_before, det_after = sweep.run(self._matrices(spins, order), 0)
        assert det_after is not None, "the sweep ended with the last site"
        tracked, before, after = (
            self._log_weight(x) for x in (det_before + sweep.log_det, det_before, det_after)
        )
        drift = torch.maximum((before - log_weight).abs(), (after - tracked).abs()).max()
        if not drift <= DRIFT_LIMIT:
            raise FloatingPointError(
                f"two values of the same log W differ by {float(drift):.1e}, more than "
                f"{DRIFT_LIMIT:g}: "
                "Green's functions have lost their precision, or belong to another weight"
            )
        kept = torch.where(sweep.accepted[..., None] > 0.0, proposals, old)
        spins = spins.scatter(1, place, kept)
        if self._classical is not None:
            after = after + self._classical.log_weight(spins)
        return spins, after, sweep.accepted

    def turned(self, turns: Tensor, sites: Tensor) -> Tensor:
        """Return X_k, (chains, K, p, 2, 2) complex128, of turns S' - S (chains, p, 3) of sites."""
        blocks = self.ensemble.hamiltonian.site_blocks(turns, sites)
        return self._scale[:, None, None, None] * blocks[:, None]

    def change(self, log_det: Tensor) -> Tensor:
        """Return 2 sum_k a_k log|det| (chains,) of log|det| (chains, K).

        Collective over the group.
        """
        return 2.0 * self.group.sum_tensor(log_det @ self._weights)

    def _log_weight(self, log_det: Tensor) -> Tensor:
        centre = self.ensemble.mu - self.ensemble.hamiltonian.mean_level
        constant = self.ensemble.beta * centre + 2.0 * math.log(2.0)
        return self.ensemble.sites * constant + self.change(log_det)

    def _matrices(self, spins: Tensor, order: Tensor) -> Tensor:
        """Return A_k, (chains, K, 2 sites, 2 sites) complex128.

        The sites of each chain are in the given order (chains, sites).
        """
        index = (2 * order[..., None] + torch.arange(2, device=order.device)).flatten(1)
        chain = torch.arange(len(order), device=order.device)[:, None, None]
        h = self.ensemble.hamiltonian.dense(spins)[chain, index[:, :, None], index[:, None, :]]
        h.diagonal(dim1=1, dim2=2).sub_(self.ensemble.mu)
        matrices = self._scale[:, None, None] * h[:, None]
        matrices.diagonal(dim1=2, dim2=3).add_(1.0)
        return matrices


class Patch:
    """Green's functions between p sites of every chain, visited in turn.

    Attributes
    ----------
    greens : (chains, K, 2p, 2p) complex128
        A_k^-1 between these sites, for the frequencies of this rank.
    """

    def __init__(self, functions: GreensFunctions, greens: Tensor) -> None:
        self._functions, self.greens = functions, greens

    def visit(self, site: int, block: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
        """Test a new spin of one site by Metropolis. Collective; O(K p^2).

        ``greens`` is kept up to date for the sites behind it only.

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
            1 or 0.
        log_det : (chains, K) float64
            Change of log|det A_k|; 0 where the proposal was rejected.
        """
        here, behind = slice(2 * site, 2 * site + 2), slice(2 * site + 2, None)
        g00, g01, g10, g11 = self.greens[..., here, here].flatten(-2).unbind(-1)
        x00, x01, x10, _ = block.flatten(-2).unbind(-1)
        square = -(x00 * x00 + x01 * x10)
        determinant = (
            1.0 + x00 * (g00 - g11) + x01 * g10 + x10 * g01 + square * (g00 * g11 - g01 * g10)
        )
        log_det = determinant.abs().log()
        accepted = (threshold < self._functions.change(log_det)).double()
        adjugate = torch.stack((g11, -g01, -g10, g00), -1).unflatten(-1, (2, 2))
        update = (block + square[..., None, None] * adjugate) * (accepted[:, None] / determinant)[
            ..., None, None
        ]
        self.greens[..., behind, behind] -= self.greens[..., behind, here] @ (
            update @ self.greens[..., here, behind]
        )
        return accepted, accepted[:, None] * log_det


class _Sweep:
    """State of a sweep under way.

    ``accepted`` (chains, sites) and the changes of log|det A_k|, ``log_det`` (chains, K), so far.
    """

    def __init__(
        self,
        functions: GreensFunctions,
        turns: Tensor,
        thresholds: Tensor,
        order: Tensor,
        changes: SweepChanges | None,
    ) -> None:
        self._functions, self._turns, self._thresholds = functions, turns, thresholds
        self._order, self._changes = order, changes
        self.accepted, self.log_det = (
            torch.zeros_like(thresholds),
            torch.zeros_like(thresholds[:, :1]),
        )

    def run(self, matrix: Tensor, first: int) -> tuple[Tensor, Tensor | None]:
        """Visit the sites from ``first`` on, whose Schur complement is ``matrix``.

        ``matrix`` is (chains, K, 2 sites, 2 sites), and is overwritten.

        Returns its log|det| (chains, K) as it was and with the new spins, the latter if these are
        the last sites of all.
        """
        sites = matrix.shape[-1] // 2
        if sites <= PATCH_SITES:
            return self._visit(matrix, first)
        half = sites // 2
        a, b, c, d = _quarters(matrix, 2 * half)
        reduced, outside = _eliminate(a, b, c, d)
        before, _ = self.run(reduced, first)
        mine = slice(first, first + half)
        spin_blocks(a).add_(
            self._functions.turned(
                self._turns[:, mine] * self.accepted[:, mine, None], self._order[:, mine]
            )
        )
        reduced, inside = _eliminate(d, c, b, a)
        _, after = self.run(reduced, first + half)
        return before + outside, None if after is None else inside + after

    def _visit(self, matrix: Tensor, first: int) -> tuple[Tensor, Tensor | None]:
        """Visit the sites of a patch one by one."""
        greens, before = _invert(matrix)
        patch = Patch(self._functions, greens)
        mine = slice(first, first + matrix.shape[-1] // 2)
        blocks = self._functions.turned(self._turns[:, mine], self._order[:, mine])
        thresholds, accepted = self._thresholds[:, mine], self.accepted[:, mine]
        for site, threshold in enumerate(thresholds.unbind(1)):
            if self._changes is not None:
                threshold = threshold - self._changes.change(first + site)
            accepted[:, site], log_det = patch.visit(site, blocks[:, :, site], threshold)
            if self._changes is not None:
                self._changes.turn(first + site, accepted[:, site])
            self.log_det = self.log_det + log_det
        if mine.stop < self.accepted.shape[1]:
            return before, None
        spin_blocks(matrix).add_(blocks * accepted[:, None, :, None, None])
        return before, _log_det(torch.linalg.lu_factor_ex(matrix)[0])


def _quarters(matrix: Tensor, cut: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        matrix[..., :cut, :cut],
        matrix[..., :cut, cut:],
        matrix[..., cut:, :cut],
        matrix[..., cut:, cut:],
    )


def _eliminate(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Return a - b d^-1 c and log|det d|."""
    factors, pivots, _ = torch.linalg.lu_factor_ex(d)
    product = b @ torch.linalg.lu_solve(factors, pivots, c)
    return torch.sub(a, product, out=product), _log_det(factors)


def _invert(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return inverse and log|det|."""
    factors, pivots, _ = torch.linalg.lu_factor_ex(matrix)
    one = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device).expand_as(matrix)
    return torch.linalg.lu_solve(factors, pivots, one), _log_det(factors)


def _log_det(factors: Tensor) -> Tensor:
    return factors.diagonal(dim1=-2, dim2=-1).abs().log().sum(-1)
