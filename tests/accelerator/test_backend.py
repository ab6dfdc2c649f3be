"""The simulated accelerator does what a real one does, as far as these tests go by it."""

import pytest
import torch
from simulated_accelerator import Counts, counts, memory, set_devices


def numbers(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, dtype=torch.complex128, generator=generator)


def test_torch_sees_it():
    assert torch.accelerator.current_accelerator(check_available=True).type == "simulated"
    set_devices(2)
    assert torch.accelerator.device_count() == 2
    set_devices(0)
    assert torch.accelerator.current_accelerator(check_available=True) is None


FUNCTIONS = {
    "view_as_real": torch.view_as_real,
    "view of a view": lambda x: torch.view_as_real(x[:, 1::2].mT).diagonal(),
    "conjugate": lambda x: x.conj() * x.mH.mH + x.mH.real.mT,
    "eigenvectors": lambda x: torch.linalg.eigh(x + x.mH)[1],
    "in place": lambda x: x.clone().diagonal(dim1=-2, dim2=-1).add_(1.0),
    "sorted": lambda x: x.abs().argsort(descending=True, stable=True),
    "masked": lambda x: x[x.abs() > 1.0],
    "made there": lambda x: torch.eye(4, device=x.device) + torch.arange(4.0, device=x.device),
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_kernels_are_those_of_the_cpu(device, function):
    there = function(numbers(3, 4, 4).to(device))
    assert str(there.device) == device
    assert torch.equal(there.cpu(), function(numbers(3, 4, 4)))


def test_gradients_of_gradients(device):
    def hessian_times_one(x: torch.Tensor) -> torch.Tensor:
        x = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad((x**4).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(gradient.sum(), x)
        return second

    x = numbers(5).real
    assert torch.equal(hessian_times_one(x.to(device)).cpu(), hessian_times_one(x))


MIXTURES = {
    "a sum": lambda here, there: here + there,
    "a product": lambda here, there: there @ here,
    "a place": lambda here, there: here.clone().add_(there),
    "an index": lambda here, there: there[torch.tensor([1, 0])],
    "joined": lambda here, there: torch.cat((there, here)),
}


@pytest.mark.parametrize("function", MIXTURES.values(), ids=MIXTURES)
def test_devices_do_not_mix(device, function):
    here = numbers(4, 4)
    with pytest.raises(RuntimeError, match="same device"):
        function(here, here.to(device))


def test_copies_and_waits_are_counted(device):
    x = numbers(4, 4).real
    there, before = x.to(device), counts()
    y = there.clone() @ there + 1.0
    assert counts() == before
    y.cpu()
    assert counts() - before == Counts(0, 1, 1)
    y[0, 0].item()
    assert counts() - before == Counts(0, 2, 2)
    y[y > 0.0]
    assert counts() - before == Counts(0, 2, 3)
    y.copy_(x)
    assert counts() - before == Counts(1, 2, 3)


def test_memory_is_limited(device):
    kept = torch.zeros(1000, device=device)
    with memory(1000):
        with pytest.raises(torch.OutOfMemoryError):
            torch.zeros(1000, device=device)
        with pytest.raises(torch.OutOfMemoryError):
            kept + 1.0
        del kept
        torch.zeros(1000, device=device)
