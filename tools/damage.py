"""Checkpoints after an accident, or after somebody changed their state and made the checksums right
again: for tools/faults.py.
"""

import json
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from hpcslmc.parallel.chains import ChainBlock
from hpcslmc.parallel.world import World
from hpcslmc.simulation.state import MEASURED
from hpcslmc.storage import checkpoint

CHAINS = 8
"""Of every checkpoint here."""


def load(path: Path) -> tuple[dict, dict]:
    """Both trees of a checkpoint, with all chains."""
    return checkpoint.load(path, ChainBlock(CHAINS, 0, CHAINS), World())


def damaged(good: bytes, kind: str, rng: random.Random) -> bytes:
    """A checkpoint's bytes after an accident, or after somebody changed its state and made the
    checksums right again.
    """
    if kind in TAMPERED:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "checkpoint.h5"
            path.write_bytes(good)
            chains, shared = load(path)
            tamper(chains, shared, kind, rng)
            checkpoint.save(path, chains, shared, ChainBlock(CHAINS, 0, CHAINS), World())
            return path.read_bytes()
    room = int(good[len(checkpoint.FORMAT) : checkpoint.FIRST_LINE - 9])
    index = json.loads(good[checkpoint.FIRST_LINE : room])
    ranges = {"bit in the index": (0, room), "bit anywhere": (0, len(good))}
    if kind == "truncated":
        return good[: rng.randrange(len(good))]
    if kind == "foreign":
        return rng.choice(
            (
                b"",
                b"\x89HDF\r\n\x1a\n" + rng.randbytes(3000),
                rng.randbytes(5000),
                good[room:],
                b"hpcslmc checkpoint 2" + good[20:],
            )
        )
    if kind == "bit in HDF5's own":
        covered = np.zeros(len(good), bool)
        covered[:room] = True
        for dtype, shape, _, place in index["arrays"].values():
            covered[place : place + np.dtype(dtype).itemsize * int(np.prod(shape))] = True
        place = int(rng.choice(np.flatnonzero(~covered)))
    else:
        place = rng.randrange(*ranges[kind])
    changed = bytearray(good)
    changed[place] ^= 1 << rng.randrange(8)
    return bytes(changed)


def entries(
    tree: dict, where: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict, object]]:
    """Everything in a nested dict, groups too: its path, the dict that holds it, and itself."""
    for key, value in tree.items():
        yield (*where, key), tree, value
        if isinstance(value, dict):
            yield from entries(value, (*where, key))


def tamper(chains: dict, shared: dict, kind: str, rng: random.Random) -> None:
    """Change one entry of a checkpoint's trees, drawn from those that the kind suits; of the job
    and the versions none.
    """
    suits, change = TAMPERED[kind]
    found = [
        entry
        for entry in (*entries(chains, ("chains",)), *entries(shared, ("shared",)))
        if entry[0][1] not in ("job", "versions")
    ]
    # a group of arrays has no end but that of its last one
    path, holder, value = rng.choice(
        [
            (path, holder, value)
            for path, holder, value in found
            if len(holder) > 1 and suits(path, value)
        ]
    )
    change(holder, path[-1], value)


def put(change: Callable[[object], object]) -> Callable[[dict, str, object], None]:
    """What puts something else in the place of a value."""
    return lambda holder, key, value: holder.update({key: change(value)})


def is_count(path: tuple[str, ...], value: object) -> bool:
    return type(value) is int


def is_array(path: tuple[str, ...], value: object) -> bool:
    return isinstance(value, torch.Tensor)


def is_plain(path: tuple[str, ...], value: object) -> bool:
    """Whether it may be replaced by a plain value: in a checkpoint chains have arrays alone."""
    return path[0] == "shared"


def is_known(path: tuple[str, ...], value: object) -> bool:
    """Whether nan is wrong there: energies of chains that have moved are not known, and what was
    measured is data.
    """
    measured = any(part in "/".join(path) for part in MEASURED)
    is_number = isinstance(value, torch.Tensor) and value.is_floating_point() and value.numel() > 0
    return is_number and not measured and path[-1] not in ("energy", "density")


TAMPERED: dict[
    str, tuple[Callable[[tuple[str, ...], object], bool], Callable[[dict, str, object], object]]
] = {
    "missing": (lambda path, value: True, lambda holder, key, value: holder.pop(key)),
    "unknown": (
        lambda path, value: value != {},
        lambda holder, key, value: holder.update({f"{key}s": value}),
    ),
    "another type": (is_plain, put(lambda value: {"0": True})),
    "text": (is_plain, put(lambda value: "__import__('os').system('touch written')")),
    "negative": (is_count, put(lambda value: -1 - value)),
    "huge": (is_count, put(lambda value: 2**80)),
    "a fraction": (is_count, put(lambda value: value + 0.5)),
    "a name": (
        lambda path, value: path[-1] in ("phase", "stage", "method"),
        put(lambda value: "finish\nhpcslmc: \x1b[31m"),
    ),
    "another shape": (is_array, put(lambda value: value.reshape(*value.shape, 1, 1))),
    "another precision": (is_array, put(lambda value: value.to(torch.uint8))),
    "nan": (is_known, put(lambda value: torch.full_like(value, torch.nan))),
}
"""Kinds of tampering: which entries they suit, by path and value, and what becomes of one."""
DAMAGES = (
    "bit in the index",
    "bit in HDF5's own",
    "bit anywhere",
    "truncated",
    "foreign",
    *TAMPERED,
)
