"""Counter-based random streams keyed by (seed, chain, purpose).

A stream belongs to a Markov chain, not to the rank that happens to hold it: the numbers that chain
c sees are a pure function of the seed, of c, of the purpose and of how many draws came before. A
run on any number of ranks, and a resumed run, therefore draws the same numbers. The generator is
Philox4x32-10 (Salmon, Moraes, Dror, Shaw, SC'11, doi:10.1145/2063384.2063405), written with integer
tensor operations so that it is batched over chains and runs where the chains live.
"""

import math
import zlib

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10


def philox4x32(counter: tuple[Tensor, ...], key: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Apply the Philox4x32-10 bijection.

    Parameters
    ----------
    counter : four int64 tensors that broadcast together, each holding 32-bit words
    key : two int64 tensors that broadcast with them, 32-bit words

    Returns
    -------
    Four int64 tensors of random 32-bit words.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        p0 = c0 * _MULTIPLIERS[0]  # wraps modulo 2^64: both halves are right
        p1 = c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            ((p1 >> 32) & _MASK) ^ c1 ^ k0,
            p1 & _MASK,
            ((p0 >> 32) & _MASK) ^ c3 ^ k1,
            p0 & _MASK,
        )
        k0 = (k0 + _WEYL[0]) & _MASK
        k1 = (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


class Stream:
    """Random numbers for a batch of chains and one purpose.

    Parameters
    ----------
    seed : int
        Seed of the job, 0 <= seed < 2^32.
    chains : (chains,) int64
        Global indices of the chains, on the device where the numbers are wanted.
    purpose : str
        What the numbers are for; streams of different purposes are independent.

    Notes
    -----
    All chains advance together, so the whole state is one integer, the number of calls so far.
    """

    def __init__(self, seed: int, chains: Tensor, purpose: str) -> None:
        self._key = (torch.tensor(seed, device=chains.device), chains[:, None])
        self._purpose = torch.tensor(zlib.crc32(purpose.encode()), device=chains.device)
        self._calls = 0

    def uniform(self, *shape: int) -> Tensor:
        """Draw uniform numbers of the open interval (0, 1), (chains, *shape) float64.

        They have 53 random bits.
        """
        count = math.prod(shape)
        chains = self._key[1]
        block = torch.arange((count + 1) // 2, device=chains.device)
        # filled there: a number made here would be copied to the device
        calls = (
            torch.full_like(self._purpose, self._calls & _MASK),
            torch.full_like(self._purpose, self._calls >> 32),
        )
        self._calls += 1
        w0, w1, w2, w3 = philox4x32((block[None, :], *calls, self._purpose), self._key)
        high, low = torch.stack((w0, w2), -1), torch.stack((w1, w3), -1)
        numbers = (((high >> 5) << 26) + (low >> 6)).double().add_(0.5).mul_(2.0**-53)
        return numbers.flatten(1)[:, :count].reshape(-1, *shape)

    def normal(self, *shape: int) -> Tensor:
        """Draw standard normal numbers, (chains, *shape) float64 (Box-Muller)."""
        count = math.prod(shape)
        radius, angle = self.uniform(2, (count + 1) // 2).unbind(1)
        radius = torch.sqrt(-2.0 * torch.log(radius))
        angle = 2.0 * math.pi * angle
        pairs = torch.stack((radius * torch.cos(angle), radius * torch.sin(angle)), -1)
        return pairs.flatten(1)[:, :count].reshape(-1, *shape)

    def directions(self, *shape: int) -> Tensor:
        """Draw uniform unit vectors, (chains, *shape, 3) float64."""
        return torch.nn.functional.normalize(self.normal(*shape, 3), dim=-1)

    def state_dict(self) -> dict:
        return {"calls": self._calls}

    def load_state_dict(self, state: dict) -> None:
        self._calls = state["calls"]
