"""Learned models on disk: one small HDF5 file, read by jobs that start from it."""

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pydantic
import torch
from torch import Tensor

from hpcslmc.effective.described import (
    describe_electrons,
    differences,
    hash_of_sites,
    read_physics,
)
from hpcslmc.effective.free_electrons import Physics
from hpcslmc.effective.model import Architecture, EffectiveModel
from hpcslmc.environment import expanded
from hpcslmc.errors import UserError
from hpcslmc.plugins import MODELS
from hpcslmc.storage.files import check_regular, publishing
from hpcslmc.storage.hdf5 import open_hdf5
from hpcslmc.storage.names import MODEL

FORMAT = "hpcslmc model 1"
LARGEST = 2**27
"""Largest size of a model's parameters in a file that is not refused, in bytes."""


@dataclass(frozen=True)
class Learned:
    """A learned model as a file has it.

    Attributes
    ----------
    path : Path
        Of the file.
    architecture : Architecture
        With t, mu and beta that it was learned at.
    parameters : dict of str to Tensor
    J : float, tuple of float, or None
        Coupling that it was learned at; files of earlier versions do not say.
    sites : str or None
        Hash of the values of single sites that it was learned at, "" without any, or None as J.
    """

    path: Path
    architecture: Architecture
    parameters: dict[str, Tensor]
    J: float | tuple[float, ...] | None
    sites: str | None

    def unlike(self, physics: Physics) -> str:
        """Describe the parameters that differ from those it was learned at; "" if none does."""
        return differences(self.architecture.physics, self.sites, physics)


def save_model(path: Path, model: EffectiveModel, versions: Mapping[str, str]) -> None:
    """Write a model and publish it by rename.

    Parameters
    ----------
    path : Path
    model : EffectiveModel
        Its architecture goes into the attributes ``architecture`` (JSON: its name, its settings,
        the electrons, t, mu and beta on a square lattice), ``J`` and ``sites``, a hash of the
        values of single sites, its parameters into datasets.
    versions : mapping of str to str
        Attributes.
    """
    with publishing(path) as part, open_hdf5(part, "w") as file:
        file.attrs["format"] = FORMAT
        own = model.architecture
        electrons = describe_electrons(own.electrons)
        described = {"name": own.name, **own.settings, "electrons": electrons}
        file.attrs["architecture"] = json.dumps(described)
        file.attrs.update(versions)
        file.attrs["J"] = own.physics.J
        file.attrs["sites"] = hash_of_sites(own.physics)
        for name, value in model.state_dict().items():
            file[name.replace(".", "/")] = value.cpu().numpy()


def load_model(path: str, temperature: float | None = None) -> Learned:
    """Read a learned model.

    Parameters
    ----------
    path : str
        A model file, or the output directory of a run that learned one.
    temperature : float
        Of a ladder's output directory, which has a model for each temperature, the one that is
        nearest in ratio is taken.

    Raises
    ------
    UserError
    """
    directory = file_path = expanded(path, "[effective] start_from")
    if os.path.isdir(file_path):
        file_path /= MODEL
    if temperature is not None and not os.path.exists(file_path) and (rungs := _rungs(directory)):
        file_path = rungs[min(rungs, key=lambda other: abs(math.log(other / temperature)))]
    try:
        check_regular(file_path)
        with open_hdf5(file_path, "r") as file:
            if file.attrs.get("format") != FORMAT:
                raise UserError(f"{file_path} is not a model of this program ({FORMAT}).")
            # read the coupling and the architecture
            J = _coupling(file.attrs["J"]) if "J" in file.attrs else None
            architecture = _architecture(json.loads(file.attrs["architecture"]), J)
            sites = str(file.attrs["sites"]) if "sites" in file.attrs else None
            # collect all datasets, and refuse too many numbers before any is read
            datasets: dict[str, h5py.Dataset] = {}
            file.visititems(
                lambda name, item: (
                    datasets.update({name: item}) if isinstance(item, h5py.Dataset) else None
                )
            )
            if sum(dataset.size for dataset in datasets.values()) * 8 > LARGEST:
                raise UserError(
                    f"{file_path} holds more than {LARGEST >> 20} MB of parameters and is refused."
                )
            parameters = {
                name.replace("/", "."): torch.as_tensor(np.asarray(dataset[()], dtype=np.float64))
                for name, dataset in datasets.items()
            }
            if not all(value.isfinite().all() for value in parameters.values()):
                raise ValueError("not all are finite")
    except OSError as error:
        raise UserError(
            f"[effective] start_from = {path!r}: cannot read {file_path}: "
            f"{error.strerror or str(error).splitlines()[0]}."
        ) from None
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{file_path} is damaged, its architecture or parameters cannot be read: {error}."
        ) from None
    return Learned(file_path, architecture, parameters, J, sites)


def _rungs(directory: Path) -> dict[float, Path]:
    """Find the model files in a ladder's output directory, by temperature, as folders are named."""
    if not os.path.isdir(directory):  # or it may not be looked into
        return {}
    named = {
        path: re.fullmatch(r"T([0-9]+\.?[0-9]*(?:e[-+]?[0-9]+)?)", path.parent.name)
        for path in directory.glob(f"T*/{MODEL}")
    }
    return {
        temperature: path
        for path, name in named.items()
        if name and 0.0 < (temperature := float(name[1])) < math.inf
    }


def _coupling(J: Any) -> float | tuple[float, ...]:
    """Read J, a number or one for each sublattice; ValueError if it is none."""
    numbers = np.asarray(J, dtype=float)
    if numbers.ndim > 1 or not np.isfinite(numbers).all():
        raise ValueError("J is not finite")
    return tuple(numbers.tolist()) if numbers.ndim else float(numbers)


def _architecture(described: dict, J: float | tuple[float, ...] | None) -> Architecture:
    """Read the architecture that a file describes; TypeError or ValueError if it describes none."""
    known = list(J) if isinstance(J, tuple) else math.nan if J is None else J
    physics = read_physics({"electrons": described.pop("electrons"), "J": known})
    name = described.pop("name")
    if not isinstance(name, str):
        raise ValueError("a name that is none")
    if name in MODELS:  # one that is not imported is refused where it is to be used
        _check_settings(name, described)
    return Architecture(name, described, physics)


def _check_settings(name: str, settings: Mapping[str, Any]) -> None:
    """Raise ValueError unless a model of that name has options that give such settings."""
    try:
        MODELS.declared(name, "Options").of(settings)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{place} of {name}: {first['msg'].lower()}") from None


def check_parameters(model: EffectiveModel, parameters: dict[str, Tensor], path: str) -> None:
    """Check that parameters from a file fit a model.

    Raises
    ------
    UserError
    """
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in parameters.items()}
    if expected != found:
        wrong = sorted(
            name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
        )
        raise UserError(
            f"[effective] start_from = {path!r}: parameters {', '.join(wrong)} do not fit the "
            "architecture that the file names."
        )
