"""Files that are published by rename, and what may be in their way."""

import os
from pathlib import Path

import h5py
import pytest

from hpcslmc.cli.folder import set_aside
from hpcslmc.environment import expanded
from hpcslmc.errors import UserError
from hpcslmc.storage.files import (
    beside,
    check_places,
    check_regular,
    make_folder,
    publishing,
    reserve,
)
from hpcslmc.storage.hdf5 import open_hdf5

OBSTACLES = {
    "a fifo": os.mkfifo,
    "a link to a device": lambda path: path.symlink_to("/dev/full"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to another file": lambda path: path.symlink_to("other"),
    "a link to a folder": lambda path: path.symlink_to("."),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "other").write_text("untouched")
    return tmp_path / "results.h5"


def write(path: Path, text: str) -> None:
    with publishing(path) as part:
        part.write_text(text)


@pytest.mark.parametrize("place", [lambda path: path, beside])
@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_what_is_no_folder_gives_way(path, obstacle, place):
    OBSTACLES[obstacle](place(path))
    check_places([path])
    write(path, "new")
    check_regular(path)
    assert path.read_text() == "new" and not path.is_symlink() and not beside(path).exists()
    assert (path.parent / "other").read_text() == "untouched"


@pytest.mark.parametrize("place", [lambda path: path, beside])
def test_a_folder_in_the_way_is_named(path, place):
    place(path).mkdir()
    for attempt in (lambda: check_places([path]), lambda: write(path, "new")):
        with pytest.raises(UserError, match="is a folder|Is a directory") as error:
            attempt()
        assert (
            "\n" not in str(error.value)
            and place(path).is_dir()
            and (place(path) == beside(path) or not beside(path).exists())
        )


def test_what_was_there_stays_where_the_disk_is_full(path):
    write(path, "old")
    with (
        pytest.raises(UserError, match="results.h5 cannot be written .No space left on device."),
        publishing(path) as part,
    ):
        part.symlink_to("/dev/full")
        part.write_text("new")
    assert path.read_text() == "old" and not os.path.lexists(beside(path))


def test_a_file_that_hdf5_cannot_write(path):
    with (
        pytest.raises(UserError, match="results.h5 cannot be written .disk gone."),
        publishing(path) as part,
        h5py.File(part, "w") as file,
    ):
        file["x"] = 1.0
        raise RuntimeError("Can't flush (errno = 5, error message = 'disk gone', buf = 0x1)")
    assert not path.exists() and not beside(path).exists()


def test_a_file_in_place_of_a_folder(path):
    path.touch()
    with pytest.raises(UserError, match="results.h5 cannot be made a folder .File exists."):
        make_folder(path)


def test_room_is_on_the_disk_and_what_is_there_stays(path):
    path.write_bytes(b"kept")
    reserve(path, 3_000_000)
    assert (
        path.stat().st_blocks * 512 >= 3_000_000
        and path.read_bytes()[:5] == b"kept\0"
        and path.stat().st_size == 3_000_000
    )


@pytest.mark.parametrize(
    "written, meant",
    [
        ("out", "out"),
        ("~/out", "/home/me/out"),
        ("~", "/home/me"),
        ("out/~", "out/~"),
        ("./~", "~"),
        ("$A_B/x", "/a/x"),
        ("${A_B}c/$A_B", "/ac//a"),
        ("50$", "50$"),
        ("a$-b", "a$-b"),
    ],
)
def test_what_a_path_stands_for(monkeypatch, written, meant):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("A_B", "/a")
    assert expanded(written, "key") == Path(meant)


@pytest.mark.parametrize(
    "written, named",
    [
        ("$ABSENT/x", "variable ABSENT is not set"),
        ("x/${ABSENT}", "variable ABSENT is not set"),
        ("$EMPTY/x", "variable EMPTY is not set"),
        ("~no-such-user/x", "home folder ~no-such-user is not known"),
    ],
)
def test_what_a_path_cannot_stand_for(monkeypatch, written, named):
    monkeypatch.delenv("ABSENT", raising=False)
    monkeypatch.setenv("EMPTY", "")
    with pytest.raises(UserError, match=named) as error:
        expanded(written, "[output] directory")
    assert str(error.value).startswith(f"[output] directory = {written!r}: ")


def test_a_file_that_this_process_has_open_with_a_lock(path):
    """As in a notebook that looks at it with another library."""
    with h5py.File(path, "w") as file:
        file["x"] = 1.0
    with h5py.File(path, "r"), open_hdf5(path, "r") as file:
        assert file["x"][()] == 1.0


def test_what_every_kind_of_run_has_learned_is_set_aside(tmp_path):
    written = ["model.h5", "level_0.h5", "results.h5", "T0.05/model.h5", "T0.05/level_1.h5"]
    others = ["level.h5", "T/model.h5", "T0.05/notes.txt"]
    for name in written + others:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    for number in (1, 2):
        set_aside(tmp_path)
        aside = tmp_path / f"before-restart-{number}"
        assert all((aside / name).read_text() == name for name in written)
        assert all((tmp_path / name).exists() for name in others)
        assert not any((tmp_path / name).exists() for name in written)
        for name in written:
            (tmp_path / name).write_text(name)
