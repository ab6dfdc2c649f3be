"""Learned models on disk: one small HDF5 file, read by jobs that start from it."""

import json
import math
import os
from dataclasses import asdict, astuple
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from hpcslmc.effective.electrons import FreeElectrons
from hpcslmc.effective.model import Architecture, EffectiveModel
from hpcslmc.errors import UserError
from hpcslmc.files import check_regular, expanded, publishing
from hpcslmc.hdf5 import open_hdf5

FORMAT = "hpcslmc model 1"
NAME = "model.h5"
LARGEST = 2**27
"""Bytes of parameters beyond which a file is refused."""


def save_model(path: Path, model: EffectiveModel, versions: dict[str, str]) -> None:
    """Write a model's architecture (attribute ``architecture``, JSON) and parameters (datasets), and publish it by rename."""
    with publishing(path) as part, open_hdf5(part, "w") as file:
        file.attrs["format"] = FORMAT
        file.attrs["architecture"] = json.dumps(asdict(model.architecture))
        file.attrs.update(versions)
        for name, value in model.state_dict().items():
            file[name.replace(".", "/")] = value.cpu().numpy()


def load_model(path: str) -> tuple[Architecture, dict[str, Tensor]]:
    """Architecture and parameters of a learned model.

    Parameters
    ----------
    path : str
        A model file, or the output directory of a run that learned one.

    Raises
    ------
    UserError
    """
    file_path = expanded(path, "[effective] start_from")
    if os.path.isdir(file_path):
        file_path /= NAME
    try:
        check_regular(file_path)
        with open_hdf5(file_path, "r") as file:
            if file.attrs.get("format") != FORMAT:
                raise UserError(f"{file_path} is not a model of this program ({FORMAT}).")
            architecture = _architecture(json.loads(file.attrs["architecture"]))
            datasets: dict[str, h5py.Dataset] = {}
            file.visititems(lambda name, item: datasets.update({name: item}) if isinstance(item, h5py.Dataset) else None)
            if sum(dataset.size for dataset in datasets.values()) * 8 > LARGEST:
                raise UserError(f"{file_path} holds more than {LARGEST >> 20} MB of parameters and is refused.")
            parameters = {name.replace("/", "."): torch.as_tensor(np.asarray(dataset[()], dtype=np.float64))
                          for name, dataset in datasets.items()}
            if not all(value.isfinite().all() for value in parameters.values()):
                raise ValueError("not all are finite")
    except OSError as error:
        raise UserError(f"[effective] start_from = {path!r}: cannot read {file_path}: {error.strerror or str(error).splitlines()[0]}.") from None
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"{file_path} is damaged, its architecture or parameters cannot be read: {error}.") from None
    return architecture, parameters


def _architecture(described: dict) -> Architecture:
    """The architecture that a file describes; TypeError or ValueError if it describes none."""
    electrons = FreeElectrons(**{name: float(value) for name, value in described.pop("electrons").items()})
    shells = tuple(described["shells"])
    if not all(map(math.isfinite, astuple(electrons))) or not all(type(shell) is int and shell > 0 for shell in shells) \
            or not isinstance(described["name"], str):
        raise ValueError("numbers that make no sense")
    return Architecture(**{**described, "shells": shells}, electrons=electrons)


def check_parameters(model: EffectiveModel, parameters: dict[str, Tensor], path: str) -> None:
    """Check that parameters from a file fit a model.

    Raises
    ------
    UserError
    """
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in parameters.items()}
    if expected != found:
        wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        raise UserError(f"[effective] start_from = {path!r}: parameters {', '.join(wrong)} do not fit the architecture that the file names.")
