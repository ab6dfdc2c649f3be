"""Jobs from TOML files and from tables."""

import codecs
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pydantic

from hpcslmc.errors import UserError
from hpcslmc.job.rules import resolve
from hpcslmc.job.schema import Job
from hpcslmc.job.sentences import SHOWN, cut, sentence
from hpcslmc.storage.files import check_regular

LARGEST_FILE = 2**15
"""Largest size of a job file in bytes."""


def load_job(path: str, ranks: int = 1) -> Job:
    """Read and check a job file.

    Parameters
    ----------
    path : str
    ranks : int
        MPI ranks of this run; they have to divide the chains.

    Raises
    ------
    UserError
        One sentence that names the file, the key, what is wrong and what would be right.
    """
    try:
        check_regular(Path(path), LARGEST_FILE)
        content = Path(path).read_bytes()
        text = content.decode("utf-8-sig")  # with or without a byte order mark
    except OSError as error:
        raise UserError(f"{path}: cannot read the job file: {error.strerror}.") from None
    except UnicodeDecodeError:
        wide = (
            ", but UTF-16: save it as UTF-8"
            if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
            else ""
        )
        raise UserError(f"{path}: the job file is not UTF-8 text{wide}.") from None
    try:
        table = tomllib.loads(text)
    except ValueError as error:  # of tomllib, or of an integer with more digits than Python reads
        raise UserError(f"{path}: not valid TOML: {cut(str(error), 4 * SHOWN)}.") from None
    except RecursionError:
        raise UserError(f"{path}: not a job file: nested too deeply.") from None
    try:
        job = make_job(table)
        check_ranks(job, ranks)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return job


def make_job(table: Mapping[str, Mapping]) -> Job:
    """Make the job of a table of sections, as a job file has them: checked, and with all defaults.

    Raises
    ------
    UserError
        One sentence that names the key, what is wrong and what would be right.
    """
    if not isinstance(table, Mapping):
        raise UserError(f"a job has to be a table of sections, not {cut(repr(table))}.")
    try:
        return resolve(Job.model_validate(table))
    except pydantic.ValidationError as error:
        # a misspelt name is why another is missing
        raise UserError(
            sentence(min(error.errors(), key=lambda it: it["type"] != "extra_forbidden"))
        ) from None


def check_ranks(job: Job, ranks: int) -> None:
    """Check that so many ranks can share the chains.

    Raises
    ------
    UserError
    """
    chains, per_chain = job.sampling.chains, job.sampling.ranks_per_chain
    if ranks % per_chain and ranks > 1:
        raise UserError(
            f"{ranks} ranks cannot be divided into groups of [sampling] ranks_per_chain = "
            f"{per_chain}: use {_near_multiples(ranks, per_chain)} ranks."
        )
    groups = max(1, ranks // per_chain)
    if chains % groups:
        parties = f"{groups} ranks" if per_chain == 1 else f"{groups} groups of {per_chain} ranks"
        raise UserError(
            f"[sampling] chains = {chains} cannot be shared equally by {parties}: "
            f"use {_near_multiples(chains, groups)} chains, or other ranks."
        )


def _near_multiples(number: int, divisor: int) -> str:
    below, above = number // divisor * divisor, (number // divisor + 1) * divisor
    return f"{below} or {above}" if below else str(above)
