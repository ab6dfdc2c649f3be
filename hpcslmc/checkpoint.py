"""Checkpoints: one parallel HDF5 file, written by all ranks together, published by rename.

The file holds two trees of arrays. Under ``/chains`` the first axis of every dataset is the global
chain, and each rank writes and reads its own block of it; under ``/shared`` are arrays that all ranks
hold alike, and one JSON text with every plain value (counters, phases, the resolved job, versions).
Nothing is pickled. A file that is not complete never has the checkpoint's name.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import torch

from hpcslmc.errors import UserError
from hpcslmc.parallel import ChainBlock, World

FORMAT = "hpcslmc checkpoint 1"


def save(path: Path, chains: dict, shared: dict, block: ChainBlock, world: World) -> None:
    """Write a checkpoint. Collective.

    Parameters
    ----------
    path : Path
        Where the file is published.
    chains : dict
        Nested dict of arrays or tensors whose first axis is this rank's chains.
    shared : dict
        Nested dict of arrays, tensors and plain JSON values, equal on all ranks.
    block : ChainBlock
    world : World
    """
    beside = path.with_suffix(".part")
    with _open(beside, "w", world) as file:
        file.attrs["format"] = FORMAT
        arrays, plain = _split(chains)
        if plain:
            raise TypeError(f"only arrays belong to chains, not {sorted(plain)}")
        for name, array in arrays.items():
            dataset = file.create_dataset(f"chains/{name}", (block.total, *array.shape[1:]), array.dtype)
            dataset[block.first:block.first + block.count] = array
        arrays, plain = _split(shared)
        for name, array in arrays.items():
            dataset = file.create_dataset(f"shared/{name}", array.shape, array.dtype)
            if world.is_root:
                dataset[...] = array
        text = np.frombuffer(json.dumps(plain).encode(), np.uint8)
        dataset = file.create_dataset("shared/plain_json", text.shape, text.dtype)
        if world.is_root:
            dataset[...] = text
    if world.is_root:
        _publish(beside, path)
    world.barrier()


def load(path: Path, block: ChainBlock, world: World) -> tuple[dict, dict]:
    """Read a checkpoint: this rank's chains, and what is shared, as saved (arrays as tensors). Collective.

    Raises
    ------
    UserError
        If the file is not a complete checkpoint of this format and this number of chains.
    """
    world.on_root(lambda: _check(path, block))
    with _open(path, "r", world) as file:
        mine = slice(block.first, block.first + block.count)
        chains = _read(file["chains"], lambda dataset: dataset[mine])
        shared = _read(file["shared"], lambda dataset: dataset[()])
    plain = json.loads(shared.pop("plain_json").numpy().tobytes())
    return chains, _merge(plain, shared)


def _check(path: Path, block: ChainBlock) -> None:
    remedy = "move it away, or start over with --restart"
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != FORMAT:
                raise UserError(f"{path} is not a checkpoint of this version ({FORMAT}): {remedy}.")
            chains = len(file["chains/spins"])
    except (OSError, KeyError):
        raise UserError(f"{path} is not a complete HDF5 checkpoint: {remedy}.") from None
    if chains != block.total:
        raise UserError(f"{path} holds {chains} chains, the job file asks for {block.total}: {remedy}.")


def _open(path: Path, mode: str, world: World) -> h5py.File:
    if world.communicator is None:
        return h5py.File(path, mode)
    return h5py.File(path, mode, driver="mpio", comm=world.communicator)


def _publish(beside: Path, path: Path) -> None:
    """Rename a finished file to its name: data to the disk first, then the folder's entry."""
    _flush_to_disk(beside)
    os.replace(beside, path)
    _flush_to_disk(path.parent)


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _split(tree: dict, prefix: str = "") -> tuple[dict[str, np.ndarray], dict]:
    """Arrays of a nested dict by path, and the nested dict of what is left."""
    arrays, plain = {}, {}
    for key, value in tree.items():
        if isinstance(value, dict):
            inner, rest = _split(value, f"{prefix}{key}/")
            arrays.update(inner)
            if rest or not value:
                plain[key] = rest
        elif isinstance(value, torch.Tensor):
            arrays[prefix + key] = value.detach().cpu().numpy()
        elif isinstance(value, np.ndarray):
            arrays[prefix + key] = value
        else:
            plain[key] = value
    return arrays, plain


def _read(group: h5py.Group, read: Callable[[h5py.Dataset], np.ndarray]) -> dict:
    """Nested dict of a group's datasets as tensors (copied, so aligned as torch aligns them)."""
    return {name: _read(item, read) if isinstance(item, h5py.Group) else torch.tensor(np.asarray(read(item)))
            for name, item in group.items()}


def _merge(first: dict, second: dict) -> dict:
    """Two nested dicts of disjoint leaves as one."""
    merged = dict(first)
    for key, value in second.items():
        merged[key] = _merge(merged[key], value) if isinstance(merged.get(key), dict) else value
    return merged
