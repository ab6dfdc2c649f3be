"""Bound of the electrons' energies; it stands apart so that a job is checked without torch."""


def spectral_bound(t: float, J: float) -> float:
    """Return Gershgorin's bound of all |E_n|, whatever the spins and the lattice: 4 |t| + |J| / 2.

    Every site has four hops, and V(S) = (J/2) S.sigma has the eigenvalues +-J/2.
    """
    return 4.0 * abs(t) + 0.5 * abs(J)
