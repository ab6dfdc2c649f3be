"""Every registered model keeps the protocol: one shared set of checks."""

import pytest
import torch
from helpers import as_if_trained, assert_invariant, make_effective, random_spins

from hpcslmc.effective import MODELS, EffectiveModel
from hpcslmc.effective.linear import Linear
from hpcslmc.physics.lattice import Lattice

VARIANTS = {
    **{name: (name, {}) for name in MODELS},
    "attention, heads": ("attention", {"heads": 3, "renormalise": False}),
    "gatr, scores": ("gatr", {"scores": True, "heads": 2}),
    "lie_transformer, tangents": ("lie_transformer", {"tangents": True}),
    "lie_transformer, softmax": ("lie_transformer", {"softmax": True, "heads": 1}),
    "transformer, relative": ("transformer", {"relative": True}),
    "transformer, average": ("transformer", {"average": 3}),
}
"""Every model with its defaults, and with options that change its form."""


def make_variant(variant: str, shape: tuple[int, int], shells: int = 3) -> EffectiveModel:
    name, options = VARIANTS[variant]
    return make_effective(name, Lattice(shape), shells, layers=2, **options)


def trained_like(name: str, shape: tuple[int, int], shells: int = 3) -> EffectiveModel:
    """A model whose parameters are all of the size that training gives them."""
    model = make_variant(name, shape, shells)
    return as_if_trained(model, name)


@pytest.mark.parametrize("shape", [(4, 4), (6, 6), (4, 6), (3, 5)])
@pytest.mark.parametrize("name", VARIANTS)
def test_invariance_is_as_declared(name, shape):
    model = trained_like(name, shape)
    if model.invariant:
        assert_invariant(model, Lattice(shape))
    else:
        with pytest.raises(AssertionError):
            assert_invariant(model, Lattice(shape), tolerance=1e-3)


def test_what_is_not_invariant_is_noticed():
    class Field(Linear):
        def forward(self, spins):
            return super().forward(spins) + spins[:, :, 2].square().sum(1)

    architecture = make_effective("linear", Lattice((4, 4)), 2, 0).architecture
    with pytest.raises(AssertionError):
        assert_invariant(Field(Lattice((4, 4)), architecture), Lattice((4, 4)))


@pytest.mark.parametrize("name", VARIANTS)
def test_parameters_load_on_a_larger_lattice(name):
    small, large = trained_like(name, (6, 6)), make_variant(name, (8, 8))
    large.load_state_dict(small.state_dict())
    assert torch.isfinite(large(random_spins(2, 64))).all()
    assert small.architecture == large.architecture


@pytest.mark.parametrize("name", VARIANTS)
def test_derivatives(name):
    model = trained_like(name, (3, 3), shells=2)
    spins = random_spins(2, 9).requires_grad_()
    assert torch.autograd.gradcheck(model, spins)
    assert torch.autograd.gradgradcheck(model, spins)
    evaluation = model.evaluate(spins, forces=True)
    gradient = torch.autograd.grad(model(spins).sum(), spins)[0]
    if name == "determinants":  # whose forces come from inverses
        assert torch.allclose(evaluation.forces, gradient, rtol=0, atol=1e-12)
    else:
        assert torch.equal(evaluation.forces, gradient)
    assert torch.allclose(evaluation.log_weight, model(spins), rtol=1e-13, atol=1e-10)
    assert torch.allclose(model.evaluate(spins).log_weight, model(spins), rtol=1e-13, atol=1e-10)


@pytest.mark.parametrize("name", VARIANTS)
def test_correlations_are_what_the_couplings_multiply(name):
    model = make_variant(name, (4, 6), 4)
    spins = random_spins(3, 24)
    with torch.no_grad():
        model.couplings.copy_(
            torch.tensor([0.5, -0.2, 0.1, 0.3, 0.2, -0.3, 0.1, 0.4, -0.1])[: len(model.couplings)]
        )
        assert torch.allclose(model(spins), model.correlations(spins) @ model.couplings, atol=1e-12)


def test_parameter_counts_of_the_benchmark():
    """7, 28, 49, 70 for the linear model and 1, 2, 3 layers of attention on 6 shells, the constant
    counted.
    """
    counts = [
        1 + sum(p.numel() for p in make_effective(name, Lattice((6, 6)), 6, layers).parameters())
        for name, layers in (("linear", 0), ("attention", 1), ("attention", 2), ("attention", 3))
    ]
    assert counts == [7, 28, 49, 70]
