"""Malformed job files, made from the schema of jobs and from what it does not know of."""

import json
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from malformed_systems import SYSTEMS

from hpcslmc.job.schema import Job
from hpcslmc.storage.models import FORMAT

GOOD = {
    "lattice": {"shape": "[4, 4]"},
    "ensemble": {"temperature": "0.1"},
    "effective": {"model": '"attention"', "layers": "1", "shells": "3"},
    "thermalisation": {"moves": "5"},
    "learning": {"rounds": "1", "configurations": "3", "steps": "5"},
    "sampling": {"chains": "8", "samples": "8"},
}
"""A job of seconds that is right: sections, keys, and values as TOML."""
LITERALS = {
    "integer": ("3", "-7", "0x10"),
    "number": ("2.5", "1e3"),
    "string": ('"3"', '"six"', "'''[6, 6]'''"),
    "boolean": ("true", "false"),
    "array": ("[]", "[2.5]", '["a", "b"]', "[[6, 6]]"),
    "object": ("{}", "{ value = 3 }"),
    "date": ("1979-05-27", "1979-05-27T07:32:00Z", "07:32:00"),
}
"""Values by type."""
DIGITS = 4300
"""Of an integer, beyond which Python reads none."""
HUGE = ("9999999999999", "10000000000000000000000000000000000000", "1" + "0" * 5000)


@dataclass(frozen=True)
class Case:
    """One malformed job.

    Attributes
    ----------
    kind, what : str
    content : bytes
        Of the job file.
    names : str
        What the sentence has to contain.
    prepare : callable
        Makes other files in the job's folder, or puts something else in the place of the job file.
    parsed : bool
        Whether the parser alone has to refuse it.
    least_ranks : int
        On fewer ranks there is nothing wrong with it.
    """

    kind: str
    what: str
    content: bytes
    names: str = ""
    prepare: Callable[[Path], None] = lambda folder: None
    parsed: bool = True
    least_ranks: int = 1

    def place(self, folder: Path) -> None:
        """Make the job's folder."""
        (folder / "job.toml").write_bytes(self.content)
        self.prepare(folder)


def job(changes: dict[str, str | None] | None = None) -> bytes:
    """The good job with keys ``section.key`` changed, or left out where the value is None."""
    table = {section: dict(keys) for section, keys in GOOD.items()}
    for key, value in (changes or {}).items():
        section, _, name = key.partition(".")
        if value is None:
            del table[section][name]
        else:
            table.setdefault(section, {})[name] = value
    return "\n".join(
        f"[{section}]\n" + "".join(f"{name} = {value}\n" for name, value in keys.items())
        for section, keys in table.items()
    ).encode()


def schema_cases() -> Iterator[Case]:
    """What the schema forbids, key by key."""
    schema = Job.model_json_schema()
    for section, about in schema["properties"].items():
        one = alternatives(about)[0]  # a section, where there may be several too
        keys = schema["$defs"][one["$ref"].rpartition("/")[2]]["properties"]
        for key, described in keys.items():
            yield from key_cases(
                section, key, [kind for kind in alternatives(described) if kind["type"] != "null"]
            )
            yield Case(
                "unknown key",
                f"{section}.{key} misspelt",
                job({f"{section}.{key[:-1]}q{key[-1]}": "3"}),
                f"{key[:-1]}q{key[-1]}",
            )
        for literal in ("3", '"text"', "[1]", "true"):
            yield Case("no section", f"{section} = {literal}", bare(section, literal), section)
        yield Case(
            "unknown key",
            f"section {section} misspelt",
            job() + f"[{section}s]\n".encode(),
            f"{section}s",
        )
    for key in ("lattice.shape", "ensemble.temperature"):
        yield Case("missing", key, job({key: None}), key.partition(".")[2])


def alternatives(described: dict) -> list[dict]:
    """What a key may be, each with its type."""
    several = described.get("anyOf") or described.get("oneOf")
    return [kind for each in several for kind in alternatives(each)] if several else [described]


def bare(section: str, literal: str) -> bytes:
    """The good job with a value in place of a section."""
    rest = "\n".join(
        f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())
        for name, keys in GOOD.items()
        if name != section
    )
    return f"{section} = {literal}\n{rest}".encode()


def key_cases(section: str, key: str, kinds: list[dict]) -> Iterator[Case]:
    """Wrong types and values of one key."""
    types = {kind["type"] for kind in kinds}
    allowed = types | ({"integer"} if "number" in types else set())
    for name, literals in LITERALS.items():
        for literal in literals if name not in allowed else ():
            yield Case(
                "wrong type",
                f"{section}.{key} = {literal}",
                job({f"{section}.{key}": literal}),
                key,
            )
    wrong = []
    for kind in kinds:
        if "minimum" in kind:
            wrong += [kind["minimum"] - 1, kind["minimum"] - 10**6]
        if "maximum" in kind:
            wrong += [kind["maximum"] + 1]
        if "exclusiveMinimum" in kind:
            wrong += [kind["exclusiveMinimum"], f"{kind['exclusiveMinimum'] - 1e-300}"]
        if "exclusiveMaximum" in kind:
            wrong += [kind["exclusiveMaximum"]]
        if "enum" in kind:
            wrong += [
                '"none"',
                json.dumps(kind["enum"][0].upper()),
                json.dumps(kind["enum"][0] + " "),
            ]
        if kind.get("minLength"):
            wrong += ['""']
        if kind["type"] == "number":
            wrong += ["nan", "inf", "-inf", "1e999"]
        if kind["type"] == "integer":
            wrong += ["3.0"]
        if kind["type"] == "array":
            wrong += ["[{}]", "[[[3]]]", "[1979-05-27]"]
        if "prefixItems" in kind:
            wrong += [
                json.dumps([6] * (len(kind["prefixItems"]) + 1)),
                "[6]",
                "[6, 6.0]",
                "[6, 1]",
                "[0, 0]",
                "[-6, 6]",
                '[6, "6"]',
                "[6, nan]",
                "[true, 6]",
            ]
    for value in wrong:
        yield Case(
            "out of range", f"{section}.{key} = {value}", job({f"{section}.{key}": str(value)}), key
        )


TEXTS = {
    "empty": b"",
    "spaces": b" \n\t\n",
    "a word": b"hello",
    "an open section": b"[lattice",
    "two values": b"[lattice]\nshape = [4, 4] [4, 4]",
    "the same key twice": job() + b"seed = 1\nseed = 2\n",
    "the same section twice": job() + b"[lattice]\n",
    "JSON": b'{"lattice": {"shape": [4, 4]}}',
    "YAML": b"lattice:\n  shape: [4, 4]\n",
    "Python": b"import os\nos.system('touch written')\n",
    "Latin-1": job() + b"# caf\xe9\n",
    "UTF-16": job().decode().encode("utf-16"),
    "two marks of byte order": 2 * b"\xef\xbb\xbf" + job(),
    "a NUL": job() + b"\x00",
    "an ELF": b"\x7fELF\x02\x01\x01" + bytes(200),
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(500),
    "a pickle": b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00\x8c\x01x\x94.",
    "a lone surrogate": job() + b'x = "\\ud800"\n',
    "deep arrays": b"x = " + b"[" * 5000 + b"]" * 5000,
    "deep tables": b"x = " + b"{a=" * 5000 + b"1" + b"}" * 5000,
    "a deep key": job() + b".".join([b"a"] * 20000) + b" = 1\n",
    "a key of two lines": job() + b'"a\\nhpcslmc: b" = 1\n',
    "an escape in a key": job() + b'"\\u001b[31m" = 1\n',
    "a long key": job() + b"a" * 10**6 + b" = 1\n",
    "a section of two lines": job() + b'["a\\nb"]\n',
    "a long value": job({"weight.method": '"' + "a" * 10**6 + '"'}),
    "a dotted key": b"lattice.shape.x = 4\n" + job(),
    "a table of tables": b"[[lattice]]\nshape = [4, 4]\n[ensemble]\ntemperature = 0.1\n",
}
MEANINGLESS = {
    "more shells than there are": {"effective.shells": "6"},
    "a linear model with layers": {"effective.model": '"linear"'},
    "channels of an attention model": {"effective.channels": "4"},
    "no rounds and no model": {"learning.rounds": "0"},
    "a budget below the chains": {"learning.budget": "7"},
    "one chain to learn from": {"sampling.chains": "1"},
    "no chain for validation": {"learning.validation_fraction": "0.01"},
    "a batch below the chains": {"learning.batch_size": "3"},
    "fewer samples than four bins": {"sampling.bin_size": "3"},
    "no force from ScaLAPACK": {"weight.method": '"scalapack"'},
    "a shared diagonalisation": {"weight.method": '"diagonalise"', "sampling.ranks_per_chain": "2"},
    "densities of states never measured": {"measure.density_of_states": "9"},
    "structure factors never measured": {"measure.structure_factor": "9"},
    "exchange that never comes": {"ensemble.temperature": "[0.2, 0.1]", "ensemble.exchange": "9"},
    "two temperatures of one folder": {"ensemble.temperature": "[0.2, 0.2000001]"},
    "data of no learning": {"sampling.method": '"exact"', "learning.keep_data": "true"},
}
DIRECTORIES = {
    "a file": "job.toml",
    "below a file": "job.toml/out",
    "a device": "/dev/null",
    "of the kernel": "/proc/hpcslmc",
    "too long": "o" * 300,
    "with a NUL": "out\\u0000",
    "of two lines": "job.toml/a\\nb",
    "a link to itself": "loop",
}


def other_cases() -> Iterator[Case]:
    """What the schema does not know of."""
    for what, content in TEXTS.items():
        yield Case("text", what, content)
    for what, changes in MEANINGLESS.items():
        yield Case("meaningless", what, job(changes))
    for what, (changes, names) in SYSTEMS.items():
        yield Case("system", what, job(changes), names)
    yield Case(
        "ranks", "do not divide the chains", job({"sampling.chains": "9"}), "chains", least_ranks=4
    )
    yield Case(
        "ranks",
        "do not make groups",
        job({"sampling.ranks_per_chain": "3"}),
        "ranks_per_chain",
        least_ranks=4,
    )
    yield Case(
        "ranks",
        "groups do not divide the chains",
        job({"sampling.ranks_per_chain": "2", "sampling.chains": "9", "weight.method": '"blocks"'}),
        "chains",
        least_ranks=4,
    )
    for literal in HUGE:
        for key in ("sampling.chains", "effective.layers", "measure.energies", "sampling.seed"):
            yield Case(
                "huge",
                f"{key} = 10^{len(literal) - 1}",
                job({key: literal}),
                key.partition(".")[2] if len(literal) < DIGITS else "",
            )
        yield Case(
            "huge",
            f"shape of 10^{len(literal) - 1}",
            job({"lattice.shape": f"[{literal}, {literal}]"}),
            "shape" if len(literal) < DIGITS else "",
        )
    yield Case(
        "huge",
        "channels",
        job({"effective.model": '"messages"', "effective.channels": HUGE[0]}),
        "channels",
    )
    yield Case("huge", "t = 1e300", job({"hamiltonian.t": "1e300"}), "temperature")
    yield Case("huge", "J = 1e300", job({"hamiltonian.J": "-1e300"}), "temperature")
    yield Case("huge", "mu = 1e300", job({"hamiltonian.mu": "1e300"}), "temperature")
    yield Case(
        "huge", "temperature = 1e-300", job({"ensemble.temperature": "1e-300"}), "temperature"
    )
    for what, name in DIRECTORIES.items():
        yield Case(
            "directory",
            what,
            job({"output.directory": f'"{name}"'}),
            "directory",
            lambda folder: (folder / "loop").symlink_to("loop"),
            parsed=False,
        )
    for what, prepare in NO_FILES.items():
        yield Case("no file", what, b"", "job.toml", prepare)
    for what, prepare in MODELS.items():
        yield Case(
            "start_from",
            what,
            job(
                {
                    "effective.start_from": '"learned.h5"',
                    "effective.model": None,
                    "effective.layers": None,
                    "effective.shells": None,
                }
            ),
            "learned.h5",
            prepare,
            parsed=what not in LATE,
        )


def in_place(make: Callable[[Path], object], name: str = "job.toml") -> Callable[[Path], None]:
    """Put something else in the place of a file."""

    def prepare(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        make(folder / name)

    return prepare


NO_FILES = {
    "missing": in_place(lambda path: None),
    "a folder": in_place(Path.mkdir),
    "a fifo": in_place(os.mkfifo),
    "nothing": in_place(lambda path: path.symlink_to("/dev/null")),
    "endless zeros": in_place(lambda path: path.symlink_to("/dev/zero")),
    "a link to itself": in_place(lambda path: path.symlink_to(path.name)),
    "a terabyte of nothing": in_place(lambda path: (path.touch(), os.truncate(path, 2**40))),
}
ARCHITECTURE = {
    "name": "attention",
    "shells": [1, 2],
    "layers": 1,
    "channels": 0,
    "electrons": {"t": 1.0, "mu": 0.0, "beta": 10.0},
}


def model(
    changes: dict | str | None = None,
    parameters: dict[str, object] | None = None,
    link: object = None,
) -> Callable[[Path], None]:
    """A model file that is wrong in some places."""

    def make(path: Path) -> None:
        with h5py.File(path, "w") as file:
            file.attrs["format"] = FORMAT
            described = (
                changes if isinstance(changes, str) else json.dumps(ARCHITECTURE | (changes or {}))
            )
            file.attrs["architecture"] = described
            for name, value in (parameters or {}).items():
                if isinstance(value, int):
                    file.create_dataset(name, (value,), "f8", chunks=True)
                else:
                    file[name] = value
            if link is not None:
                file["couplings"] = link

    return in_place(make, "learned.h5")


MODELS = {
    "missing": in_place(lambda path: None, "learned.h5"),
    "a folder without one": in_place(Path.mkdir, "learned.h5"),
    "empty": in_place(Path.touch, "learned.h5"),
    "rubbish": in_place(
        lambda path: path.write_bytes(random.Random(1).randbytes(4000)), "learned.h5"
    ),
    "a fifo": in_place(os.mkfifo, "learned.h5"),
    "endless zeros": in_place(lambda path: path.symlink_to("/dev/zero"), "learned.h5"),
    "a link to itself": in_place(lambda path: path.symlink_to(path.name), "learned.h5"),
    "a truncated one": in_place(
        lambda path: (model()(path.parent), os.truncate(path, 700)), "learned.h5"
    ),
    "another program's HDF5": in_place(lambda path: h5py.File(path, "w").close(), "learned.h5"),
    "no JSON": model("import os"),
    "a list": model("[1]"),
    "deep": model("[" * 5000),
    "of no name": model({"name": "mlp"}),
    "of a number for a name": model({"name": 3}),
    "unknown entries": model({"width": 3}),
    "shells of text": model({"shells": "abc"}),
    "shells of fractions": model({"shells": [0.5]}),
    "no shells": model({"shells": []}),
    "a negative shell": model({"shells": [-1, 2]}),
    "negative layers": model({"layers": -1}),
    "layers of text": model({"layers": "1"}),
    "huge layers": model({"layers": 10**12}),
    "huge channels": model({"name": "messages", "channels": 10**12}),
    "no electrons": model({"electrons": {}}),
    "electrons of text": model({"electrons": {"t": "one", "mu": 0.0, "beta": 1.0}}),
    "no parameters": model(),
    "other parameters": model({}, {"weights": np.ones(3)}),
    "parameters that are none": model({}, {"couplings": np.full(2, np.nan)}),
    "parameters of text": model({}, {"couplings": "text"}),
    "parameters of structures": model({}, {"couplings": np.zeros(3, "f8,f8")}),
    "parameters of other shapes": model({}, {"couplings": np.ones((3, 4, 5))}),
    "a terabyte": model({}, {"couplings": 2**37}),
    "a link to another file": model(link=h5py.ExternalLink("/etc/passwd", "x")),
    "a link to nothing": model(link=h5py.SoftLink("/nothing")),
}
LATE = {
    "no parameters",
    "other parameters",
    "parameters of other shapes",
    "a link to another file",
    "a link to nothing",
}
"""What only shows when the model is built."""
