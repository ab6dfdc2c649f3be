"""Checkpoints that are damaged, foreign or hostile.

Named in one sentence, never loaded, nothing touched.
"""

import errno
import json
import os
import random
import resource
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from hpcslmc.errors import UserError
from hpcslmc.parallel.chains import ChainBlock
from hpcslmc.parallel.world import World
from hpcslmc.storage import checkpoint
from hpcslmc.storage.checkpoint import arrays, reader, writer

BLOCK = ChainBlock(8, 0, 8)
WORLD = World()


def save(path: Path, number: int = 1) -> None:
    chains = {
        "spins": torch.full((8, 4, 3), float(number)),
        "data": {"forces": torch.ones(8, 5), "none": torch.zeros(8, 0)},
    }
    checkpoint.save(
        path,
        chains,
        {"number": number, "model": {"w": torch.ones(7), "step": torch.tensor(2.0)}},
        BLOCK,
        WORLD,
    )


def load_newest(path: Path) -> tuple[int, Path, list[str]]:
    (_, shared), used, remarks = checkpoint.load_newest(
        path, lambda candidate: checkpoint.load(candidate, BLOCK, WORLD)
    )
    return shared["number"], used, remarks


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint.h5"


def test_the_last_two_are_kept_and_hdf5_reads_them(path):
    for number in (1, 2, 3):
        save(path, number)
    assert sorted(p.name for p in path.parent.iterdir()) == [
        "checkpoint.h5",
        "checkpoint.previous.h5",
    ]
    for file_path, number in ((path, 3), (checkpoint.previous(path), 2)):
        assert checkpoint.load(file_path, BLOCK, WORLD)[1]["number"] == number
        with h5py.File(file_path) as file:
            assert np.all(file["chains/spins"][()] == number) and file["chains/spins"].shape == (
                8,
                4,
                3,
            )


def test_every_flipped_bit_and_every_truncation_is_noticed(path):
    """All of a small file's bytes, one flipped bit in each; then 300 lengths."""
    save(path)
    good, rng = path.read_bytes(), random.Random(1)
    for place in range(len(good)):
        damaged = bytearray(good)
        damaged[place] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(checkpoint.Damaged):
            checkpoint.load(path, BLOCK, WORLD)
    for length in rng.sample(range(len(good)), 300):
        path.write_bytes(good[:length])
        with pytest.raises(checkpoint.Damaged):
            checkpoint.load(path, BLOCK, WORLD)
    path.write_bytes(good)
    assert checkpoint.load(path, BLOCK, WORLD)[1]["number"] == 1


NO_FILES = {
    "a fifo": os.mkfifo,
    "a folder": os.mkdir,
    "endless zeros": lambda path: path.symlink_to("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize("case", NO_FILES)
def test_something_else_in_place_of_the_file(path, case):
    """It is named when read, and does not keep a new one from being written."""
    save(path, 1)
    path.rename(checkpoint.previous(path))
    NO_FILES[case](path)
    number, used, remarks = load_newest(path)
    assert (number, used, len(remarks)) == (1, checkpoint.previous(path), 1) and str(
        path
    ) in remarks[0]
    path.rename(path.with_suffix(".aside"))
    save(path, 2)
    assert load_newest(path)[0] == 2


@pytest.mark.parametrize("case", NO_FILES)
def test_something_else_in_the_way_of_a_new_one(path, case):
    save(path, 1)
    before = path.read_bytes()
    beside = path.with_suffix(".part")
    NO_FILES[case](beside)
    if beside.is_dir():
        with pytest.raises(UserError, match="cannot be written .Is a directory.") as error:
            save(path, 2)
        assert "\n" not in str(error.value) and path.read_bytes() == before
    else:
        save(path, 2)
        assert load_newest(path)[0] == 2


FOREIGN = {
    "nothing": b"",
    "text": b"not HDF5",
    "a zip": b"PK\x03\x04" + bytes(5000),
    "zeros": bytes(10_000),
    "an earlier format": b"hpcslmc checkpoint 2" + bytes(100),
    "only the first line": b"hpcslmc checkpoint 3      2048 02d6ec39\n",
    "a pickle": b"\x80\x04\x95\x1b\x00\x00\x00\x00\x00\x00\x00"
    b"\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x04true\x94\x85\x94R\x94.",
}


@pytest.mark.parametrize("case", FOREIGN)
def test_the_previous_one_is_used(path, case):
    save(path, 1)
    save(path, 2)
    path.write_bytes(FOREIGN[case])
    number, used, remarks = load_newest(path)
    assert (number, used) == (1, checkpoint.previous(path))
    assert len(remarks) == 1 and str(path) in remarks[0] and "\n" not in remarks[0]
    assert path.read_bytes() == FOREIGN[case]


def test_killed_between_the_two_renames(path):
    save(path, 1)
    path.rename(checkpoint.previous(path))
    assert load_newest(path)[0] == 1


def test_none_is_good(path):
    save(path, 1)
    save(path, 2)
    for file_path in (path, checkpoint.previous(path)):
        file_path.write_bytes(file_path.read_bytes()[:-1])
    before = {p.name: p.read_bytes() for p in path.parent.iterdir()}
    with pytest.raises(
        UserError, match="there is no good checkpoint .*truncated.*truncated"
    ) as error:
        load_newest(path)
    assert "\n" not in str(error.value)
    assert {p.name: p.read_bytes() for p in path.parent.iterdir()} == before


def test_another_programs_hdf5_file(path):
    with h5py.File(path, "w") as file:
        file["chains/spins"] = np.zeros((8, 4, 3))
    with pytest.raises(checkpoint.Damaged, match="not a checkpoint of this version"):
        checkpoint.load(path, BLOCK, WORLD)


def forge(path: Path, change) -> None:
    """Rewrite the index of a checkpoint, with a right checksum."""
    whole = path.read_bytes()
    room = int(whole[len(checkpoint.FORMAT) : -1][:10])
    index = json.loads(whole[checkpoint.FIRST_LINE : room])
    body = change(index)
    body = (json.dumps(index).encode() if not isinstance(body, bytes) else body).ljust(
        room - checkpoint.FIRST_LINE
    )
    assert len(body) == room - checkpoint.FIRST_LINE
    path.write_bytes(
        f"{checkpoint.FORMAT} {room:9d} {zlib.crc32(body):08x}\n".encode() + body + whole[room:]
    )


def entry(place: int, value: object):
    """Change the type (0), shape (1), checksum (2) or place (3) of the spins."""
    return lambda index: index["arrays"]["chains/spins"].__setitem__(place, value)


def renamed(name: str):
    """Another path for an array of the model."""
    return lambda index: index["arrays"].update({name: index["arrays"].pop("shared/model/w")})


HOSTILE = {
    "objects": entry(0, "|O"),
    "a structure": entry(0, "f8,f8"),
    "text": entry(0, "<U8"),
    "no type": entry(0, "?!"),
    "a list": entry(0, ["<f8"]),
    "huge": entry(1, [8, 10**12, 3]),
    "negative": entry(1, [8, -4, 3]),
    "a fraction": entry(1, [8, 4.5, 3]),
    "no axes": entry(1, []),
    "other chains": entry(1, [4, 8, 3]),
    "beyond the end": entry(3, 10**9),
    "before the start": entry(3, -8),
    "on the index": entry(3, 0),
    "text for a place": entry(3, "7"),
    "overlap": lambda index: index["arrays"].update(
        {"shared/again": index["arrays"]["chains/spins"]}
    ),
    "an array for a group": lambda index: index["arrays"].update(
        {"shared/model": index["arrays"].pop("shared/model/w")}
    ),
    "no arrays": lambda index: index.pop("arrays"),
    "no plain values": lambda index: index["arrays"].pop("shared/plain_json"),
    "a path with dots": renamed("shared/./w"),
    "a path without a name": renamed("shared/model/"),
    "a deep path": renamed("shared" + 20 * "/a"),
    "an array for a plain value": renamed("shared/number"),
    "no number of chains": lambda index: index.pop("chains"),
    "not an object": lambda index: b"[1, 2, 3]",
    "not JSON": lambda index: b"import os",
    "deep": lambda index: b"[" * 900,
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_with_right_checksums(path, case):
    save(path)
    forge(path, lambda index: None)
    assert checkpoint.load(path, BLOCK, WORLD)[1]["number"] == 1
    forge(path, HOSTILE[case])
    with pytest.raises(checkpoint.Damaged):
        checkpoint.load(path, BLOCK, WORLD)


def test_a_huge_sparse_file_takes_no_memory(path):
    """A terabyte that is not there: refused by its index, without reading or allocating it."""
    save(path)
    shape, more = [8, 2**30, 16], 2**40
    forge(
        path,
        lambda index: (
            index["arrays"].update({"chains/more": ["<f8", shape, 0, index["size"]]}),
            index.update(size=index["size"] + more),
        ),
    )
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + more)
    with pytest.raises(checkpoint.Damaged, match="more than this machine's memory"):
        checkpoint.load(path, BLOCK, WORLD)


def test_the_callers_verdict_comes_before_the_arrays(path, monkeypatch):
    save(path)

    def refuse(chains, shared):
        assert chains == {
            "spins": ("<f4", (4, 3)),
            "data": {"forces": ("<f4", (5,)), "none": ("<f4", (0,))},
        }
        raise UserError(f"number is {shared['number']}, {shared['model']}")

    def never(*arguments):
        raise AssertionError("an array was read")

    monkeypatch.setattr(reader, "_read_shared", never)
    monkeypatch.setattr(reader, "_read_chains", never)
    with pytest.raises(UserError, match="number is 1, {'w': Array.*}"):
        checkpoint.load(path, BLOCK, WORLD, refuse)


def test_a_full_disk_leaves_what_was_there(path, monkeypatch):
    save(path, 1)
    before = path.read_bytes()

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match="cannot be written .No space left on device.") as error:
        save(path, 2)
    assert "\n" not in str(error.value)
    assert [p.name for p in path.parent.iterdir()] == [
        "checkpoint.h5"
    ] and path.read_bytes() == before


def test_a_file_that_may_not_grow_to_its_size(path, capfd):
    """Whatever the limit, one sentence, the checkpoint as before, and not a word from HDF5."""
    save(path, 1)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in range(0, len(before), 61):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(UserError, match="cannot be written .File too large.") as error:
                save(path, 2)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert "\n" not in str(error.value)
        assert [p.name for p in path.parent.iterdir()] == [
            "checkpoint.h5"
        ] and path.read_bytes() == before
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", [OSError, RuntimeError])
def test_what_hdf5_says_of_a_full_disk_is_cut_to_its_reason(path, monkeypatch, kind):
    def story(*arguments):
        raise kind(
            "Can't flush (file write failed: time = now\n, errno = 28, error message = 'No space "
            "left on device', buf = 0x1)"
        )

    monkeypatch.setattr(writer, "reserve", story)
    with pytest.raises(UserError, match="cannot be written .No space left on device.;"):
        save(path)


def awkward() -> dict:
    """Arrays that do not lie in memory as they are written, of few and of many bytes a chain, and
    empty ones.
    """
    rng = np.random.default_rng(3)
    return {
        "plain": rng.random((8, 5, 7)),
        "turned": rng.random((7, 8)).T,
        "part": rng.random((8, 9, 4))[:, :5],
        "one": np.arange(8),
        "empty": np.zeros((8, 0, 3)),
        "bits": rng.random((8, 41)) > 0.5,
        "deep": torch.tensor(rng.random((8, 2, 3, 4, 5))),
    }


@pytest.mark.parametrize("piece", [8, 24, 100, 1000])
def test_pieces_make_the_same_file(path, monkeypatch, piece):
    """No call has more than a piece, whatever the shape, and the bytes on the disk are those of one
    call.
    """
    shared = {"w": np.arange(50.0).reshape(5, 10).T, "number": torch.tensor(2.0)}
    checkpoint.save(path, awkward(), shared, BLOCK, WORLD)
    whole, lengths, write = path.read_bytes(), [], h5py.Dataset.__setitem__

    def note(dataset, place, value):
        lengths.append(np.asarray(value).nbytes if "/chains/" in dataset.name else 0)
        write(dataset, place, value)

    monkeypatch.setattr(arrays, "PIECE", piece)
    monkeypatch.setattr(h5py.Dataset, "__setitem__", note)
    checkpoint.save(path, awkward(), shared, BLOCK, WORLD)
    assert path.read_bytes() == whole and 0 < max(lengths) <= piece
    chains, _ = checkpoint.load(path, BLOCK, WORLD)
    for name, array in awkward().items():
        assert (
            chains[name].numpy().tobytes() == np.asarray(array).tobytes()
            and tuple(chains[name].shape) == array.shape
        )
        assert chains[name].data_ptr() % 64 == 0


def test_an_error_that_is_not_the_disks_is_not_blamed_on_it(path, monkeypatch):
    def fails(*arguments):
        raise OSError("Can't write data\n(can't convert from size to size_i)")

    monkeypatch.setattr(writer, "_write", fails)
    with pytest.raises(
        UserError,
        match="size_i.+; .* the disk did not refuse it, but HDF5, MPI or this program failed",
    ) as error:
        save(path)
    assert "see to the disk" not in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("number", ["EOPNOTSUPP", "EINVAL", "ENOSYS"])
def test_a_file_system_that_promises_no_room(path, monkeypatch, number, capfd):
    """Zeros take it.

    There is room for all when the chains are written, and a full disk is noticed as in time as
    elsewhere.
    """
    save(path, 1)
    whole = path.read_bytes()

    def lacking(*arguments):
        raise OSError(getattr(errno, number), "not here")

    monkeypatch.setattr(os, "posix_fallocate", lacking)
    monkeypatch.setattr(os, "fsync", lacking)
    save(path, 1)
    assert path.read_bytes() == whole
    path.unlink()
    checkpoint.previous(path).unlink()
    test_a_file_that_may_not_grow_to_its_size(path, capfd)


def test_bytes_that_the_disk_changes_are_never_published(path, monkeypatch):
    save(path, 1)
    before = path.read_bytes()
    monkeypatch.setattr(arrays, "checksum_of_next", lambda file, size: 0)
    with pytest.raises(UserError, match="other bytes than were written"):
        save(path, 2)
    assert path.read_bytes() == before
