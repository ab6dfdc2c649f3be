"""data.h5: the exact evaluations that a run has learned from, for later runs to learn from too."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hpcslmc.effective import Physics
from hpcslmc.effective.described import describe, differences, read_physics
from hpcslmc.environment import expanded
from hpcslmc.errors import UserError
from hpcslmc.learning.data import NAMES, DataSet
from hpcslmc.parallel.world import World
from hpcslmc.physics.lattice import Lattice
from hpcslmc.storage.files import check_regular, publishing
from hpcslmc.storage.hdf5 import open_hdf5
from hpcslmc.storage.names import DATA

FORMAT = "hpcslmc data 1"
KINDS = dict(zip(NAMES, (np.float32, np.float64, np.float32), strict=True))
PIECE = 2**24
"""Bytes that are sent and written at once."""


def write_data(
    path: Path,
    data: DataSet,
    shape: tuple[int, ...],
    physics: Physics,
    versions: dict[str, str],
    world: World,
) -> None:
    """Write all configurations of all chains, and publish the file by rename. Collective.

    Datasets
    --------
    spins, forces : (configuration, site, 3) float32, forces the tangential d log W / d S_i, zero
        where they are not known
    log_weight : (configuration,) float64

    The file's attributes hold the lattice's shape, the physics (JSON), versions and format.
    """
    arrays = dict(zip(NAMES, data.stacked(), strict=True))
    rows = {name: world.in_turn(_pieces(array, KINDS[name])) for name, array in arrays.items()}

    def write() -> None:
        try:
            with publishing(path) as part, open_hdf5(part, "w") as file:
                described = {"shape": shape, "physics": json.dumps(describe(physics)), **versions}
                file.attrs.update({"format": FORMAT, **described})
                for name, array in arrays.items():
                    total = data.chains_total * len(data)
                    dataset = file.create_dataset(name, (total, *array.shape[2:]), KINDS[name])
                    filled = 0
                    for piece in rows[name]:
                        dataset[filled : filled + len(piece)] = piece
                        filled += len(piece)
        finally:
            send()  # what was not written, so that no rank waits for ever

    def send() -> None:
        for pieces in rows.values():
            for _ in pieces:
                pass

    if not world.is_root:
        send()
    world.on_root(write)


def _pieces(array: Tensor, kind: type) -> Iterator[np.ndarray]:
    """Yield the configurations (chains, draws, ...) of this rank, some at a time."""
    rows = array.flatten(0, 1)
    step = max(1, PIECE // (rows[0].numel() * rows.element_size()))
    return (part.cpu().numpy().astype(kind) for part in rows.split(step))


class Replay:
    """Configurations of an earlier run, read from its file as they are needed.

    Parameters
    ----------
    path : str
        A file of data, or the output directory of a run that kept them.
    physics : Physics
        What they have to agree with.

    Raises
    ------
    UserError
        If there is no such file, or it is of other physics.

    Attributes
    ----------
    lattice : Lattice
    shape : tuple of int
        Its shape.
    """

    def __init__(self, path: str, physics: Physics) -> None:
        file_path = expanded(path, "[learning] replay")
        if os.path.isdir(file_path):
            file_path /= DATA
        try:
            check_regular(file_path)
            file = open_hdf5(file_path, "r")
            if file.attrs.get("format") != FORMAT:
                raise UserError(
                    f"[learning] replay: {file_path} holds no data of this program ({FORMAT})."
                )
            described = json.loads(file.attrs["physics"])
            there, of_sites = read_physics(described), described.get("sites", "")
            if unlike := differences(there, of_sites, physics):
                raise UserError(
                    f"[learning] replay: {file_path} is of other physics ({unlike}): the "
                    "couplings, mu and the temperature have to be those of this job."
                )
            self.shape = tuple(map(int, file.attrs["shape"]))
            self.lattice = Lattice(self.shape, physics.couplings.crystal)
            self._datasets = [file[name] for name in ("spins", "log_weight", "forces")]
            count, sites = len(self._datasets[1]), self.lattice.sites
            if count == 0 or [d.shape for d in self._datasets] != [
                (count, sites, 3),
                (count,),
                (count, sites, 3),
            ]:
                raise ValueError("its arrays do not fit each other")
        except OSError as error:
            problem = error.strerror or str(error).splitlines()[0]
            raise UserError(f"[learning] replay: cannot read {file_path}: {problem}.") from None
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"[learning] replay: {file_path} is damaged: {error}.") from None

    def __len__(self) -> int:
        return len(self._datasets[1])

    def read(self, rows: np.ndarray, device: torch.device | str) -> tuple[Tensor, Tensor, Tensor]:
        """Read some rows, in any order: spins, log W and tangential forces.

        Returns
        -------
        (rows, sites, 3), (rows,) and (rows, sites, 3) float64
        """
        unique, place = np.unique(rows, return_inverse=True)
        spins, log_weight, forces = (
            torch.as_tensor(dataset[unique][place], dtype=torch.float64, device=device)
            for dataset in self._datasets
        )
        return torch.nn.functional.normalize(spins, dim=-1), log_weight, forces
