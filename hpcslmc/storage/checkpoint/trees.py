"""Nested dicts of arrays, and the same arrays in one flat dict by path."""

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
import torch

Leaf = TypeVar("Leaf")


def split(tree: Mapping, prefix: str = "") -> tuple[dict[str, np.ndarray], dict]:
    """Separate a nested dict into its arrays, by path, and the nested dict of all other values."""
    arrays: dict[str, np.ndarray] = {}
    plain: dict = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            inner, rest = split(value, f"{prefix}{key}/")
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


def below(prefix: str, leaves: Mapping[str, Leaf]) -> dict[str, Leaf]:
    """Select the leaves whose path begins with the prefix, by the rest of their path."""
    return {
        path.removeprefix(prefix): leaf for path, leaf in leaves.items() if path.startswith(prefix)
    }


def nest(leaves: Mapping[str, object]) -> dict:
    """Build the nested dict of leaves given by path."""
    tree: dict = {}
    for path, leaf in leaves.items():
        *groups, name = path.split("/")
        inner = tree
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[name] = leaf
    return tree


def nest_tensors(arrays: Mapping[str, np.ndarray]) -> dict:
    """Build the nested dict of arrays given by path, as tensors on the same memory."""
    return nest({path: torch.from_numpy(array) for path, array in arrays.items()})


def merge(first: Mapping, second: Mapping) -> dict:
    """Join two nested dicts; ValueError unless their leaves are disjoint."""
    merged = dict(first)
    for key, value in second.items():
        if key in merged and not (isinstance(merged[key], dict) and isinstance(value, dict)):
            raise ValueError
        merged[key] = merge(merged[key], value) if key in merged else value
    return merged
