"""Effective models on lattices of all kinds: symmetries, forces, sizes, and what is refused."""

import numpy as np
import pytest
import torch
from helpers import as_if_trained, random_spins

from hpcslmc.effective import MODELS, Architecture, EffectiveModel, Physics, make_model, on_lattice
from hpcslmc.effective.free_electrons import FreeElectrons, large_shape
from hpcslmc.effective.momentum import Convolutions
from hpcslmc.effective.shells import shell_index, shell_links, shell_waves
from hpcslmc.errors import UserError
from hpcslmc.parallel.world import World
from hpcslmc.physics.catalogue import CATALOGUE
from hpcslmc.physics.couplings import Couplings, Hop
from hpcslmc.physics.crystal import Link
from hpcslmc.physics.ensemble import Ensemble
from hpcslmc.physics.hamiltonian import Hamiltonian
from hpcslmc.physics.lattice import Lattice
from hpcslmc.weight import make_weight
from hpcslmc.weight.nodes import model_nodes

SHAPES = {
    "chain": (6,),
    "square": (4, 4),
    "triangular": (3, 3),
    "honeycomb": (3, 3),
    "kagome": (2, 2),
    "cubic": (2, 2, 2),
}
INVARIANT = [name for name in MODELS if name != "transformer"]


def couplings_of(name: str, t=(1.0, -0.3), **own) -> Couplings:
    return Couplings.make(CATALOGUE[name].crystal, t, **{"J": 2.0, **own})


def make(
    name: str, couplings: Couplings, lattice: Lattice, mu: float = -0.5, beta: float = 5.0, **own
) -> EffectiveModel:
    """A model with random parameters of the size that training gives them, in double precision."""
    options = MODELS[name].Options
    given = {"shells": 3, "layers": 2, "channels": 4, "heads": 2, "frequencies": (1.0, 4.0)} | own
    settings = options(**{key: v for key, v in given.items() if key in options.model_fields})
    physics = Physics.of(Ensemble(Hamiltonian(lattice, couplings), beta, mu))
    model = make_model(Architecture(name, settings.settings(lattice), physics), lattice)
    model.precision = torch.float64
    return as_if_trained(model, name)


@torch.no_grad()
def assert_invariant(model: EffectiveModel, lattice: Lattice, couplings: Couplings) -> None:
    """log W_eff is the same after rotations of all spins, translations and symmetries of h."""
    spins = random_spins(3, lattice.sites)
    reference = model(spins)
    assert reference.std() > 1e-3  # it is no constant
    rotation = torch.linalg.qr(random_spins(1, 3, seed=9)[0])[0]
    images = [spins @ rotation.T, -spins]
    moves = [lattice.image(op) for op in couplings.symmetries if lattice.keeps(op)]
    images += [spins[:, move] for move in [*moves, *lattice.translations[1:]]]
    tolerance = 1e-10 * max(1.0, float(reference.abs().max()))
    for image in images:
        assert (model(image) - reference).abs().max() < tolerance


@pytest.mark.parametrize("lattice", SHAPES)
@pytest.mark.parametrize("name", INVARIANT)
def test_invariance(name, lattice):
    couplings = couplings_of(lattice)
    lattice = Lattice(SHAPES[lattice], couplings.crystal)
    assert len(couplings.symmetries) > 1
    assert_invariant(make(name, couplings, lattice), lattice, couplings)


@pytest.mark.parametrize("name", MODELS)
def test_invariance_with_inequivalent_sites_and_those_without_a_spin(name):
    couplings = couplings_of("lieb", t=(1.0,), J=(2.0, 3.0, 0.0), potential=(0.5, 0.0, 0.0))
    lattice = Lattice((2, 2), couplings.crystal)
    model = make(name, couplings, lattice)
    if name != "transformer":
        assert_invariant(model, lattice, couplings)
    spins = random_spins(2, lattice.sites)
    other = spins.clone()
    other[:, lattice.sublattice == 2] = random_spins(2, lattice.cells, seed=1)
    found, again = (model.evaluate(one, forces=True) for one in (spins, other))
    assert torch.equal(found.log_weight, again.log_weight)
    assert not found.known_forces[:, lattice.sublattice == 2].any()
    assert found.known_forces[:, lattice.sublattice == 1].any()


@pytest.mark.parametrize("name", ["messages", "determinants"])
def test_guides_are_the_gradients_of_pairs(name):
    """With some sites whose spin the electrons do not see."""
    couplings = couplings_of("lieb", t=(1.0,), J=(2.0, 3.0, 0.0))
    lattice = Lattice((2, 2), couplings.crystal)
    model = make(name, couplings, lattice)
    spins = random_spins(2, lattice.sites).requires_grad_()
    pairs = model.pairs if name == "determinants" else model.kernels.pairs
    numbers = (model.guiding if name == "determinants" else model.couplings).data
    numbers.copy_(torch.linspace(0.5, -0.5, len(numbers)))
    (gradient,) = torch.autograd.grad((pairs.sums(spins) @ numbers).sum(), spins)
    assert torch.allclose(model.guide(spins.detach()), gradient, atol=1e-12)
    of_each = torch.einsum("n,cnix->cix", numbers, pairs.forces(spins.detach()))
    assert torch.allclose(of_each, gradient, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in MODELS if MODELS[name].is_density])
def test_forces_are_the_gradient(name):
    couplings = couplings_of("kagome")
    lattice = Lattice((2, 1), couplings.crystal)
    model = make(name, couplings, lattice, shells=2)
    spins = random_spins(1, lattice.sites)
    forces = model.evaluate(spins, forces=True).known_forces[0]
    step = 1e-5 * torch.eye(spins.numel(), dtype=torch.float64).reshape(-1, *spins.shape[1:])
    with torch.no_grad():
        change = (model(spins + step) - model(spins - step)) / 2e-5
    assert torch.allclose(change, forces.flatten(), atol=1e-7)


@pytest.mark.parametrize("name", MODELS)
def test_parameters_load_on_a_larger_lattice(name):
    couplings = couplings_of("kagome")
    small, large = (Lattice(shape, couplings.crystal) for shape in ((2, 2), (3, 3)))
    model = make(name, couplings, small)
    other = make_model(model.architecture, large)
    other.load_state_dict(model.state_dict())
    assert torch.isfinite(other(random_spins(2, large.sites))).all()


@torch.no_grad()
@pytest.mark.parametrize("name", ["linear", "cnn", "messages", "gatr", "determinants"])
def test_a_repeated_configuration_has_as_many_times_the_log_weight(name):
    """Where nothing depends on the size: without determinants and without bubbles."""
    couplings = couplings_of("kagome")
    side = 2 if name in ("messages", "gatr", "determinants") else 4
    small, large = (Lattice((n, n), couplings.crystal) for n in (side, 2 * side))
    model = make(name, couplings, small, shells=4)
    if name == "determinants":
        model.couplings[: len(model.frequencies)] = 0.0
    elif name in ("messages", "gatr"):
        model.couplings[-5:] = 0.0
        for key, parameter in model.named_parameters():
            if key.rpartition(".")[2] in ("kernel", "start"):
                parameter[:, -5:] = 0.0
    spins = random_spins(2, small.sites)
    cells = large.coordinates % side
    repeated = spins[:, (cells[:, 0] * side + cells[:, 1]) * 3 + large.sublattice]
    on_large = on_lattice(model, large)
    on_large.precision = torch.float64
    assert torch.allclose(on_large(repeated), 4.0 * model(spins), rtol=1e-10, atol=1e-10)


FLUX = couplings_of("kagome", t=(1.0 + 0.4j, 0.2))
RASHBA = couplings_of(
    "honeycomb",
    t=(),
    bonds=[
        Hop(link, 1.0, ((1.0, shift), (-np.conj(shift), 1.0)))
        for link, shift in zip(
            CATALOGUE["honeycomb"].crystal.shells(1)[0], (0.3, 0.3j, 0.2 - 0.1j), strict=True
        )
    ],
    potential=(0.3, -0.2),
    field=(0.0, 0.0, 0.2),
)


@torch.no_grad()
@pytest.mark.parametrize("couplings", [FLUX, RASHBA])
def test_all_determinants_make_the_exact_weight(couplings):
    lattice = Lattice((2, 3), couplings.crystal)
    ensemble = Ensemble(Hamiltonian(lattice, couplings), 4.0, -0.5)
    nodes = model_nodes(ensemble)
    units = tuple((nodes.frequencies * ensemble.beta / np.pi).tolist())
    model = make("determinants", couplings, lattice, beta=4.0, frequencies=units)
    model.couplings.zero_()
    model.couplings[: len(units)] = torch.as_tensor(nodes.weights)
    spins = random_spins(4, lattice.sites)
    exact = make_weight("diagonalise", ensemble, World()).evaluate(spins, forces=True)
    found = model.evaluate(spins, forces=True)
    difference = exact.log_weight - found.log_weight
    assert difference.std() < 1e-8
    assert torch.allclose(found.known_forces, exact.known_forces, atol=1e-7)


@pytest.mark.parametrize(
    "couplings",
    [
        couplings_of("kagome"),
        couplings_of("triangular"),
        couplings_of("honeycomb", twist=(0.2, 0.1)),
        FLUX,
        RASHBA,
    ],
)
def test_functions_are_parts_of_propagators_in_space(couplings):
    """Against the inverse of the whole matrix, and in all ways of applying them."""
    lattice = Lattice((3, 4), couplings.crystal)
    electrons = FreeElectrons(couplings, -0.5, 5.0)
    h = Hamiltonian(lattice, electrons.couplings).static.toarray()
    z = 1j * electrons.frequencies[:, None, None] - 0.5
    n = lattice.sites
    green = np.linalg.inv(z * np.eye(2 * n) - h).reshape(-1, n, 2, n, 2)
    green = 0.5 * np.trace(green, axis1=2, axis2=4)
    back = green.swapaxes(1, 2)
    bubbles = (green * back).real * (1.0 - np.eye(n))
    expected = np.concatenate(((green + back).real, (green + back).imag, bubbles))
    waves = (electrons.propagators(lattice.shape), electrons.bubbles(lattice.shape))
    convolutions = Convolutions(lattice, couplings)
    spectra = torch.as_tensor(np.concatenate(waves))
    kernels = convolutions.between(spectra)
    scale = (kernels.numpy() * expected).sum((1, 2)) / np.square(expected).sum((1, 2))
    assert (scale > 0.0).all()
    assert np.allclose(kernels, scale[:, None, None] * expected, atol=1e-10)
    spins = random_spins(2, n)
    fields = convolutions(spectra[:, None, None], spins.permute(2, 0, 1)[None])
    assert torch.allclose(fields, torch.einsum("nij,cjx->nxci", kernels, spins), atol=1e-10)
    products = convolutions.products(spins) @ spectra.T
    squares = torch.einsum("nij,cix,cjx->cn", kernels, spins, spins)
    assert torch.allclose(products, squares, atol=1e-9)


@pytest.mark.parametrize(("lattice", "shape"), [("triangular", (12, 10)), ("honeycomb", (12, 9))])
def test_large_lattices_are_transformed_as_small_ones(lattice, shape):
    couplings = couplings_of(lattice)
    lattice = Lattice(shape, couplings.crystal)
    convolutions = Convolutions(lattice, couplings)
    classes = shell_links(couplings, (1, 3))
    spectra = torch.as_tensor(shell_waves(lattice, classes))
    kernels, index = convolutions.between(spectra), shell_index(lattice, classes)
    for n, links in enumerate(classes):
        expected = (index == n) / np.sqrt(len(links) / lattice.sublattices)
        assert np.allclose(kernels[n], expected, atol=1e-12)
    spins = random_spins(1, lattice.sites)
    fields = convolutions(spectra[:, None], spins[0].T)
    assert torch.allclose(fields, spins[0].T @ kernels, atol=1e-12)


def test_shells():
    """Of distances on the square lattice, of classes of pairs where h has fewer symmetries."""
    square, kagome = couplings_of("square"), couplings_of("kagome")
    for shape in ((4, 4), (3, 5), (2, 6), (8, 8)):
        lattice = Lattice(shape)
        names = tuple(int(d) for d in lattice.shells)
        index = shell_index(lattice, shell_links(square, (0, *names)))
        assert np.array_equal(np.array([0, *names])[index], lattice.distance2[lattice.displacement])
    # two kinds of third neighbours of kagome, along the chain and across the hexagon
    assert [len(links) // 3 for links in shell_links(kagome, (1, 2, 3, 4))] == [4, 4, 4, 2]
    # hops along one axis leave fewer symmetries: a distance is of several classes
    stripes = Couplings.make(
        t=(), bonds=[Hop(Link(0, 0, (1, 0)), 1.0), Hop(Link(0, 0, (0, 1)), 0.5)]
    )
    assert [len(links) for links in shell_links(stripes, (1, 2, 5))] == [2, 2, 4, 4, 4]
    model = make("linear", stripes, Lattice((4, 4)))
    assert len(model.couplings) == 5  # distances 1, sqrt 2 and 2
    with pytest.raises(UserError, match="no two sites are at 3"):
        shell_links(square, (1, 3))
    options = MODELS["linear"].Options
    with pytest.raises(UserError, match="shells = 19: a 2x2 lattice has only 18 neighbour shells"):
        options(shells=19).settings(Lattice((2, 2), kagome.crystal))


def test_a_spin_among_random_spins_scatters_nothing_on_average():
    couplings = couplings_of("lieb", t=(1.0,), J=(2.0, 3.0, 3.0), potential=(0.5, 0.0, 0.0))
    physics = Physics(FreeElectrons(couplings, -0.5, 10.0), couplings.J)
    frequencies = physics.electrons.frequencies
    levels = physics.levels_among_spins(frequencies)
    green = physics.electrons.resolvents(levels, large_shape(couplings))
    local = np.stack([green[..., a, a].mean(1) for a in range(3)], 1)
    sigma = (1j * frequencies - 0.5)[:, None] - levels
    adds = np.array([0.5, -0.5])[:, None, None] * np.array(couplings.J) - sigma
    assert abs((adds / (1.0 - adds * local)).mean(0)).max() < 1e-9
    assert np.allclose(levels[:, 1], levels[:, 2]) and not np.allclose(levels[:, 0], levels[:, 1])


@torch.no_grad()
@pytest.mark.parametrize("name", ["messages", "gatr", "lie_conv"])
def test_matrices_smear_as_transforms_do(name):
    couplings = couplings_of("kagome")
    lattice = Lattice((2, 3), couplings.crystal)
    model, spins = make(name, couplings, lattice), random_spins(2, lattice.sites)
    by_matrices = model(spins)
    assert model.kernels.by_matrices
    model.kernels.by_matrices = False
    assert torch.allclose(model(spins), by_matrices, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("couplings", "symmetry"), [(FLUX, r"SO\(3\)"), (RASHBA, "none")])
def test_models_with_a_symmetry_that_log_w_lacks_are_refused(name, couplings, symmetry):
    lattice = Lattice((2, 2), couplings.crystal)
    if name in ("determinants", "transformer"):
        assert torch.isfinite(make(name, couplings, lattice)(random_spins(2, lattice.sites))).all()
        return
    sentence = (
        rf'model = "{name}" needs .* O\(3\) in the spins, and that of this Hamiltonian is '
        rf'{symmetry}: use model = "transformer" or "determinants"'
    )
    with pytest.raises(UserError, match=sentence):
        make(name, couplings, lattice)


@pytest.mark.parametrize(
    "couplings", [couplings_of("kagome"), FLUX, RASHBA, couplings_of("square")]
)
def test_a_transformer_is_averaged_over_symmetries_of_log_w(couplings):
    lattice = Lattice((2, 4), couplings.crystal)
    model = make("transformer", couplings, lattice, average=6)
    ensemble = model.architecture.physics.ensemble(lattice)
    spins = random_spins(1, lattice.sites)
    images = torch.cat(
        [
            spins[:, image] @ rotation.T
            for rotation, image in zip(model._rotations, model._images, strict=True)
        ]
    )
    log_weight = make_weight("diagonalise", ensemble, World()).evaluate(images).log_weight
    assert (log_weight - log_weight[0]).abs().max() < 1e-9
    assert len({tuple(image.tolist()) for image in model._images}) > 1


def test_values_of_single_sites_are_of_one_lattice():
    couplings = couplings_of("triangular")
    lattice = Lattice((3, 4), couplings.crystal)
    site_J = np.where(np.arange(12) == 5, 0.0, 2.0)
    hamiltonian = Hamiltonian(lattice, couplings, site_J=site_J)
    physics = Physics.of(Ensemble(hamiltonian, 5.0, -0.5))
    assert np.array_equal(physics.ensemble(lattice).hamiltonian.site_J, site_J)
    for name in ("linear", "messages", "determinants"):
        settings = MODELS[name].Options().settings(lattice)
        model = make_model(Architecture(name, settings, physics), lattice)
        with torch.no_grad():
            model.couplings.fill_(0.1)
        forces = model.evaluate(random_spins(1, 12), forces=True).known_forces[0]
        assert not forces[5].any() and forces[4].any()
        with pytest.raises(UserError, match="12 sites of one lattice, and says nothing of .* 16"):
            on_lattice(model, Lattice((4, 4), couplings.crystal))
    with pytest.raises(UserError, match="another crystal"):
        physics.ensemble(Lattice((3, 4)))
