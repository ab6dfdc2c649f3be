"""Independent computations of what is measured: plain loops and numpy, nothing of the package."""

import itertools

import numpy as np

PAULI = np.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])


def hamiltonian(
    spins: np.ndarray,
    shape: tuple[int, int],
    t: float,
    J: float,
    twist: tuple[float, float] = (0.0, 0.0),
) -> np.ndarray:
    """h(S) of spins (sites, 3), bond by bond; a hop to +x (+y) is multiplied by exp(i twist)."""
    lx, ly = shape
    h = np.zeros((lx * ly, 2, lx * ly, 2), dtype=complex)
    for x in range(lx):
        for y in range(ly):
            i = x * ly + y
            h[i, :, i, :] += 0.5 * J * np.einsum("a,aij->ij", spins[i], PAULI)
            for j, phase in (((x + 1) % lx * ly + y, twist[0]), (x * ly + (y + 1) % ly, twist[1])):
                h[j, :, i, :] -= t * np.exp(1j * phase) * np.eye(2)
                h[i, :, j, :] -= t * np.exp(-1j * phase) * np.eye(2)
    return h.reshape(2 * lx * ly, 2 * lx * ly)


def fermi(x: np.ndarray) -> np.ndarray:
    """Fermi function of beta (E - mu)."""
    return 0.5 * (1.0 - np.tanh(0.5 * x))


def measured(
    spins: np.ndarray, shape: tuple[int, int], t: float, J: float, beta: float, mu: float
) -> dict[str, float]:
    """Every observable of spins (sites, 3), site by site."""
    (lx, ly), n = shape, len(spins)
    s = spins.reshape(lx, ly, 3)
    sites = [(x, y) for x in range(lx) for y in range(ly)]

    def at(x: int, y: int) -> np.ndarray:
        return s[x % lx, y % ly]

    def mode2(qx: float, qy: float) -> float:
        return float(
            np.square(
                np.abs(sum(np.exp(1j * (qx * x + qy * y)) * at(x, y) for x, y in sites) / n)
            ).sum()
        )

    def triangles(x: int, y: int) -> float:
        corners = [at(x, y), at(x + 1, y), at(x + 1, y + 1), at(x, y + 1)]
        return (
            sum(
                np.linalg.det([corners[k], corners[(k + 1) % 4], corners[(k + 2) % 4]])
                for k in range(4)
            )
            / 4.0
        )

    def modulus(x: int, y: int) -> float:
        return abs(triangles(x, y))

    step = 2.0 * np.pi / max(lx, ly)
    steps = [(step * (lx >= ly), 0.0)] * (lx >= ly) + [(0.0, step)] * (ly >= lx)
    chirality = sum(triangles(x, y) for x, y in sites) / n
    kappa = [
        sum(np.cross(at(x, y), at(x + dx, y + dy)) for x, y in sites) / n
        for dx, dy in ((1, 0), (0, 1))
    ]

    h = hamiltonian(spins, shape, t, J)
    levels, states = np.linalg.eigh(h)
    f = fermi(beta * (levels - mu))
    energy, density = (f * levels).sum() / n, f.sum() / n
    bonds = h - np.kron(np.eye(n), np.ones((2, 2))) * h  # without the blocks of single sites
    hopping = np.trace(bonds @ (states * f) @ states.conj().T).real / n / 2.0
    currents = [
        (
            hamiltonian(spins, shape, t, J, (-1e-4 * x, -1e-4 * y))
            - hamiltonian(spins, shape, t, J, (1e-4 * x, 1e-4 * y))
        )
        / 2e-4
        for x, y in ((1, 0), (0, 1))
    ]
    hall = hall_conductivity(levels, states, f, currents, n)
    return {
        "log_weight": np.log1p(np.exp(-beta * (levels - mu))).sum() / n,
        "energy": energy,
        "density": density,
        "energy2": energy**2,
        "energy_density": energy * density,
        "density2": density**2,
        "classical_energy": 0.0,
        "total_energy": energy,
        "total_energy2": energy**2,
        "total_energy_density": energy * density,
        "m2_uniform": mode2(0, 0),
        "m4_uniform": mode2(0, 0) ** 2,
        "m2_staggered": mode2(np.pi, np.pi),
        "m4_staggered": mode2(np.pi, np.pi) ** 2,
        "m2_next_uniform": np.mean([mode2(*q) for q in steps]),
        "m2_next_staggered": np.mean([mode2(np.pi + qx, np.pi + qy) for qx, qy in steps]),
        "nn_correlation": sum(at(x, y) @ (at(x + 1, y) + at(x, y + 1)) for x, y in sites) / (2 * n),
        "scalar_chirality": chirality,
        "scalar_chirality2": chirality**2,
        "scalar_chirality_abs": sum(modulus(x, y) for x, y in sites) / n,
        "vector_chirality2_x": kappa[0] @ kappa[0],
        "vector_chirality2_y": kappa[1] @ kappa[1],
        "energy_fluctuation": (levels * (levels - mu) * f * (1 - f)).sum() / n,
        "number_fluctuation": (f * (1 - f)).sum() / n,
        "energy_number_fluctuation": (levels * f * (1 - f)).sum() / n,
        "hopping_energy": hopping,
        "drude_weight": drude_weight(spins, shape, t, J, beta, mu),
        "hall_conductivity": hall,
        "hall_conductivity2": hall**2,
    }


def hall_conductivity(
    levels: np.ndarray, states: np.ndarray, f: np.ndarray, currents: list[np.ndarray], area: float
) -> float:
    """sigma_xy in units of e^2 / h, as the Berry curvature of each level by a sum over the others.

    Thouless, Kohmoto, Nightingale, den Nijs, PRL 49, 405 (1982).
    """
    x, y = (states.conj().T @ current @ states for current in currents)
    curvature = np.zeros(len(levels))
    for n, level in enumerate(levels):
        for m, other in enumerate(levels):
            if abs(level - other) > 1e-9:
                curvature[n] -= 2.0 * (x[n, m] * y[m, n]).imag / (level - other) ** 2
    return float(2.0 * np.pi / area * f @ curvature)


def conductivity_tensor(
    levels: np.ndarray, states: np.ndarray, f: np.ndarray, currents: list[np.ndarray], volume: float
) -> np.ndarray:
    """Integral over omega > 0 of the real symmetric sigma_ij, without degenerate levels."""
    elements = [states.conj().T @ current @ states for current in currents]
    tensor = np.zeros((len(currents), len(currents)))
    for m, n in itertools.combinations(range(len(levels)), 2):
        if levels[n] - levels[m] > 1e-9:
            J = np.array([x[m, n] for x in elements])
            tensor += np.outer(J, J.conj()).real * (f[m] - f[n]) / (levels[n] - levels[m])
    return np.pi / volume * tensor


def drude_weight(
    spins: np.ndarray,
    shape: tuple[int, int],
    t: float,
    J: float,
    beta: float,
    mu: float,
    step: float = 1e-3,
) -> float:
    """D = sum_n f(E_n) E_n''(A) / N, mean over twists A along x and y, by finite differences (Kohn,
    Phys. Rev. 133, A171, 1964).
    """
    weights = []
    for direction in np.eye(2):
        below, here, above = (
            np.linalg.eigvalsh(hamiltonian(spins, shape, t, J, tuple(a * step * direction)))
            for a in (-1, 0, 1)
        )
        weights.append(
            (fermi(beta * (here - mu)) * (above - 2.0 * here + below)).sum() / step**2 / len(spins)
        )
    return float(np.mean(weights))


def four_sites(points: int) -> tuple[np.ndarray, np.ndarray]:
    """Configurations (configurations, 4, 3) of a 2x2 lattice and their weights for a mean over free
    spins.

    Gauss-Legendre in cos(theta), trapezoidal rule in phi. O(3) invariance fixes the first spin
    along z and the second in the xz half plane; five angles remain.
    """
    nodes, weights = np.polynomial.legendre.leggauss(points)
    angles = np.arange(points) * 2.0 * np.pi / points
    cosines = np.stack(np.meshgrid(*[nodes] * 3, *[angles] * 2, indexing="ij"), -1).reshape(-1, 5)
    product = (
        np.stack(np.meshgrid(*[weights] * 3, *[np.ones(points)] * 2, indexing="ij"), -1)
        .reshape(-1, 5)
        .prod(1)
    )
    c = np.column_stack((np.ones(len(cosines)), cosines[:, :3]))
    phi = np.column_stack((np.zeros((len(cosines), 2)), cosines[:, 3:]))
    sine = np.sqrt(1.0 - c * c)
    return np.stack((sine * np.cos(phi), sine * np.sin(phi), c), -1), product / product.sum()
