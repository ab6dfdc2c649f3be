"""A simulated accelerator: the device ``simulated`` of torch, whose kernels are the CPU's.

Importing this module makes it torch's accelerator. The environment variable
``SIMULATED_ACCELERATORS`` says how many devices the process has, one if it is not set.
"""

import fcntl
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch

SOURCE = Path(__file__).with_name("backend.cpp")
NAME = "simulated"


def _library() -> Path:
    """The compiled backend; built once for each source, torch and environment, in the latter."""
    key = hashlib.sha256(SOURCE.read_bytes() + torch.__version__.encode()).hexdigest()[:16]
    folder = Path(sys.prefix) / "var" / f"simulated-accelerator-{key}"
    library = folder / f"{NAME}.so"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # given back by the system if this process is killed
        if not (folder / "built").exists():
            from torch.utils import cpp_extension

            (folder / "lock").unlink(missing_ok=True)  # torch's, of a build that was killed
            cpp_extension.load(
                NAME,
                [str(SOURCE)],
                build_directory=str(folder),
                extra_cflags=["-O1"],
                is_python_module=False,
            )
            (folder / "built").touch()
    return library


@dataclass(frozen=True)
class Counts:
    """What has happened between host and devices.

    Attributes
    ----------
    to_device, to_host : int
        Copies, of any size.
    waits : int
        Times that the host had to wait for a result: every copy to the host, and every operation
        whose result's size depends on numbers.
    """

    to_device: int
    to_host: int
    waits: int

    def __sub__(self, before: "Counts") -> "Counts":
        return Counts(
            self.to_device - before.to_device,
            self.to_host - before.to_host,
            self.waits - before.waits,
        )


def counts() -> Counts:
    """The counts of this process so far."""
    return Counts(*torch.ops.simulated.counts())


def set_devices(count: int) -> None:
    """Let this process see so many devices."""
    torch.ops.simulated.set_devices(count)


@contextmanager
def memory(free: int) -> Iterator[None]:
    """Let the devices have ``free`` more bytes, all together, for a while."""
    torch.ops.simulated.set_memory(torch.ops.simulated.memory_in_use() + free)
    try:
        yield
    finally:
        torch.ops.simulated.set_memory(2**63 - 1)


def _device_module() -> ModuleType:
    """What torch asks for as ``torch.simulated``."""
    module = ModuleType(f"torch.{NAME}")
    module.is_available = lambda: torch.ops.simulated.devices() > 0
    module.device_count = torch.ops.simulated.devices
    module.current_device = torch.ops.simulated.current_device
    module.set_device = lambda index: torch.ops.simulated.set_device(int(index))
    module._is_in_bad_fork = lambda: False
    module.manual_seed_all = lambda seed: None
    return module


if not hasattr(torch, NAME):
    torch.utils.rename_privateuse1_backend(NAME)
    torch.ops.load_library(_library())
    torch._register_device_module(NAME, _device_module())
    set_devices(int(os.environ.get("SIMULATED_ACCELERATORS", "1")))
