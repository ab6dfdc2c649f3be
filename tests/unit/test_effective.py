"""Every registered model keeps the protocol: one shared set of checks."""

import pytest
import torch
from helpers import as_if_trained, assert_invariant, make_effective, random_spins

from hpcslmc.effective import MODELS, EffectiveModel
from hpcslmc.effective.clifford import Algebra
from hpcslmc.effective.linear import Linear
from hpcslmc.physics.field import tangential
from hpcslmc.physics.lattice import Lattice
from hpcslmc.streams import Stream

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
    if not model.is_density:
        assert torch.equal(evaluation.forces, model.with_forces(spins)[1])
        return
    gradient = torch.autograd.grad(model(spins).sum(), spins)[0]
    if name == "determinants":  # whose forces come from inverses
        assert torch.allclose(evaluation.forces, gradient, rtol=0, atol=1e-12)
    else:
        assert torch.equal(evaluation.forces, gradient)
    assert torch.allclose(evaluation.log_weight, model(spins), rtol=1e-13, atol=1e-10)
    assert torch.allclose(model.evaluate(spins).log_weight, model(spins), rtol=1e-13, atol=1e-10)


@pytest.mark.parametrize("name", [name for name in VARIANTS if "transformer" not in name])
def test_forces_turn_with_the_spins(name):
    lattice = Lattice((4, 6))
    model, spins = trained_like(name, (4, 6)), random_spins(2, 24)
    rotation = torch.linalg.qr(random_spins(1, 3, seed=9)[0])[0]

    def forces(spins: torch.Tensor) -> torch.Tensor:
        return tangential(model.evaluate(spins, forces=True).known_forces, spins)

    own = forces(spins)
    assert torch.allclose(forces(spins @ rotation.T), own @ rotation.T, atol=1e-10)
    for symmetry in (*lattice.point_group, lattice.translations[7]):
        assert torch.allclose(forces(spins[:, symmetry]), own[:, symmetry], atol=1e-10)
    assert own.abs().max() > 0.1


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


@pytest.mark.parametrize("square", [None, 0.0, -1.0])
def test_algebras_are_those_of_their_units(square):
    """Associative, with vectors and e that anticommute and squares as they should be."""
    algebra = Algebra(square)
    components = len(algebra.grades)
    stream = Stream(1, torch.arange(3), "algebra")
    x, y, z = (stream.normal(2, components, 5).permute(1, 2, 0, 3) for _ in range(3))
    left = algebra.product(algebra.product(x, y), z)
    assert torch.allclose(left, algebra.product(x, algebra.product(y, z)), atol=1e-12)
    spins, field = (stream.normal(1, 3, 5).permute(1, 2, 0, 3) for _ in range(2))
    units = [one.square().sum(1, keepdim=True) for one in (spins, field)]
    a, b = (algebra.vectors(*of) for of in zip((spins, field), units, strict=True))
    assert torch.allclose(algebra.product(a, x), algebra.vertex(spins, x), atol=1e-12)
    both = algebra.product(a, b) + algebra.product(b, a)
    inner = (spins * field).sum(1) + (square or 0.0) * units[0][:, 0] * units[1][:, 0]
    assert torch.allclose(both[:, 0], 2.0 * inner, atol=1e-12)
    assert both[:, 1:].abs().max() < 1e-12


@pytest.mark.parametrize("scores", [False, True])
def test_what_projective_multivectors_have_more_changes_nothing(scores):
    """The same parameters, whatever those of the new grade are, give the same log W_eff.

    Scores are divided by the root of the number of components, of which there are twice as many.
    """
    plain, projective = (
        make_effective("gatr", Lattice((4, 4)), 3, layers=2, algebra=algebra, scores=scores)
        for algebra in ("euclidean", "projective")
    )
    plain, projective = (as_if_trained(of, "projective").double() for of in (plain, projective))
    plain.precision = projective.precision = torch.float64
    channels = plain.architecture.channels
    with torch.no_grad():
        for name, own in projective.named_parameters():
            from_plain = plain.get_parameter(name)
            if own.shape == from_plain.shape:
                own.copy_(from_plain)
            elif name.endswith("query"):
                query, key = own.chunk(2)
                old_query, old_key = from_plain.chunk(2)
                query[: len(old_query)], key[: len(old_key)] = 2.0**0.5 * old_query, old_key
            elif name.endswith(("gate", "mix")):  # of invariants, whose last grade is the new one
                own[:, : 5 * channels] = from_plain
            else:
                own[: len(from_plain)] = from_plain
    spins = random_spins(4, 16)
    assert torch.allclose(plain(spins), projective(spins), rtol=1e-12)
    assert (plain(spins) - plain(random_spins(4, 16, seed=9))).abs().max() > 0.1
