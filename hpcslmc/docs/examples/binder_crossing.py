"""Find where the Binder ratios of two lattice sizes cross, with an error.

python binder_crossing.py SMALL/results.h5 LARGE/results.h5
"""

import sys

import h5py
import numpy as np


def read(path: str, order: str = "staggered") -> tuple[np.ndarray, np.ndarray]:
    """Read the temperatures, and the means of |m|^2 and |m|^4 of each chain of a run.

    The means are (2, chain, temperature); the run has a list of temperatures.
    """
    with h5py.File(path) as file:
        draws = [file[f"draws/m{power}_{order}"][()] for power in (2, 4)]
        moments = [np.nanmean(x, axis=1) for x in draws]  # shorter chains end in nan
        return file["temperature"][()], np.array(moments)


def binder(moments: np.ndarray) -> np.ndarray:
    """Return the Binder ratios (temperature) of the means over all chains."""
    m2, m4 = moments.mean(1)
    return 2.5 - 1.5 * m4 / m2**2


def zero(x: np.ndarray, y: np.ndarray) -> float:
    """Return where y changes sign, by a straight line between the two points beside it.

    It is nan unless y does so once.
    """
    (places,) = np.nonzero(np.diff(np.sign(y)))
    if len(places) != 1:
        return np.nan
    k = places[0]
    return x[k] - y[k] * (x[k + 1] - x[k]) / (y[k + 1] - y[k])


def crossing(temperature: np.ndarray, small: np.ndarray, large: np.ndarray) -> tuple[float, float]:
    """Return the temperature at which the ratios of two sizes are equal, and its standard error.

    Jackknife over chains: those of a run are independent of each other, and a chain of a ladder
    leaves with all its temperatures, which
    exchange has made dependent. The two runs are independent, so that their variances add.
    """
    whole = zero(temperature, binder(large) - binder(small))
    variance = 0.0
    for left_out in (0, 1):
        runs = [small, large]
        chains = runs[left_out].shape[1]
        without = []
        for chain in range(chains):
            fewer = list(runs)
            fewer[left_out] = np.delete(runs[left_out], chain, axis=1)
            without.append(zero(temperature, binder(fewer[1]) - binder(fewer[0])))
        variance += (chains - 1) * np.var(without)
    return whole, np.sqrt(variance)


if __name__ == "__main__":
    (temperature, small), (same, large) = (read(path) for path in sys.argv[1:3])
    assert np.array_equal(temperature, same), "run both sizes at the same temperatures"
    value, error = crossing(temperature, small, large)
    print(f"T* = {value:.5f} +- {error:.5f}")
