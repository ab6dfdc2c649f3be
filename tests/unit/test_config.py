import h5py
import numpy as np
import pytest
from helpers import make_effective
from small_jobs import make_job

from hpcslmc.cli.launch import variant
from hpcslmc.effective import MODELS
from hpcslmc.errors import UserError
from hpcslmc.job.changes import changed_keys
from hpcslmc.job.load import load_job
from hpcslmc.job.load import make_job as job_of
from hpcslmc.job.schema import Job
from hpcslmc.physics.lattice import Lattice
from hpcslmc.storage.models import save_model

GOOD = """
[lattice]
shape = [6, 6]
[ensemble]
temperature = 0.05
"""

BAD = {  # what is wrong: (job file, ranks, what the sentence has to say)
    "unknown key": (
        GOOD + "[sampling]\nchanis = 4\n",
        1,
        ["[sampling]", "'chanis'", "did you mean 'chains'"],
    ),
    "unknown key, nothing close": (
        GOOD + "[sampling]\nxyzzy = 4\n",
        1,
        ["'xyzzy'", "known are method"],
    ),
    "unknown section": (GOOD + "[smapling]\n", 1, ["'smapling'", "did you mean 'sampling'"]),
    "wrong type": (
        GOOD + '[sampling]\nchains = "64"\n',
        1,
        ["[sampling] chains", "'64'", "integer"],
    ),
    "bool for a number": (
        GOOD + "[hamiltonian]\nt = true\n",
        1,
        ["[hamiltonian] t", "True", "number"],
    ),
    "empty list": (
        GOOD + '[effective]\nmodel = "determinants"\nfrequencies = []\n',
        1,
        ["[effective] frequencies = []", "at least 1 entry"],
    ),
    "long list": (
        GOOD + f'[effective]\nmodel = "determinants"\nfrequencies = {[1.0] * 17}\n',
        1,
        ["[effective] frequencies", "at most 16 entries"],
    ),
    "an acceptance beyond one": (
        GOOD + '[effective]\nmodel = "determinants"\nacceptance = [0.5, 2.0]\n',
        1,
        ["[effective] acceptance (entry 2) = 2.0", "less than 1"],
    ),
    "section is a value": (
        "lattice = 3\n[ensemble]\ntemperature = 1\n",
        1,
        ["[lattice]", "section of keys"],
    ),
    "negative temperature": (
        GOOD.replace("0.05", "-0.05"),
        1,
        ["[ensemble] temperature", "greater than 0"],
    ),
    "zero temperature": (
        GOOD.replace("0.05", "0"),
        1,
        ["[ensemble] temperature", "greater than 0"],
    ),
    "one in a list": (
        GOOD.replace("0.05", "[0.05]"),
        1,
        ["[ensemble] temperature = [0.05]", "at least two different temperatures in order"],
    ),
    "a list out of order": (
        GOOD.replace("0.05", "[0.1, 0.3, 0.2]"),
        1,
        ["[ensemble] temperature", "in order"],
    ),
    "a negative one in a list": (
        GOOD.replace("0.05", "[0.1, -0.3]"),
        1,
        ["[ensemble] temperature (entry 2) = -0.3", "greater than 0"],
    ),
    "rungs without ends": (
        GOOD.replace("0.05", "0.05\nrungs = 4"),
        1,
        ["[ensemble] rungs = 4", "two ends of the ladder, as in [0.5, 0.03]"],
    ),
    "rungs of three": (
        GOOD.replace("0.05", "[0.5, 0.1, 0.05]\nrungs = 4"),
        1,
        ["[ensemble] rungs = 4", "two ends"],
    ),
    "rungs without exchange": (
        GOOD.replace("0.05", "[0.5, 0.05]\nrungs = 4\nexchange = 0"),
        1,
        ["[ensemble] exchange = 0", "remove rungs"],
    ),
    "filling of three": (
        GOOD.replace("0.05", "0.05\nfilling = 3.0"),
        1,
        ["[ensemble] filling = 3.0", "less than 2"],
    ),
    "filling in a short thermalisation": (
        GOOD.replace("0.05", "0.05\nfilling = 0.9") + "[thermalisation]\nmoves = 5\n",
        1,
        ["[thermalisation] moves = 5", "[ensemble] filling is tuned in it", "at least 10"],
    ),
    "replay of one temperature for several": (
        GOOD.replace("0.05", "[0.1, 0.3]") + "[learning]\nreplay = ['out']\n",
        1,
        ["[learning] replay", "one temperature"],
    ),
    "energies that do not fill bins": (
        GOOD + "[measure]\nelectrons = 5\n",
        1,
        ["[measure] electrons = 5", "bin_size = 1", "use bin_size = 5"],
    ),
    "a long interval": (
        GOOD + "[measure]\noptical_conductivity = 5000\n",
        1,
        ["[measure] optical_conductivity = 5000", "only 1000 samples"],
    ),
    "a long interval of what has a default": (
        GOOD + "[measure]\nstructure_factor = 5000\n",
        1,
        ["[measure] structure_factor = 5000", "only 1000 samples"],
    ),
    "an exchange that never comes": (
        GOOD.replace("0.05", "[0.1, 0.3]\nexchange = 5000"),
        1,
        ["[ensemble] exchange = 5000", "only 1000 samples", "0 for"],
    ),
    "two temperatures of one name": (
        GOOD.replace("0.05", "[0.1, 0.10000001]"),
        1,
        ["[ensemble] temperature", "two temperatures 0.1", "six digits"],
    ),
    "rungs that are too close": (
        GOOD.replace("0.05", "[0.1, 0.100002]\nrungs = 9"),
        1,
        ["[ensemble] temperature", "two temperatures 0.1", "six digits"],
    ),
    "data of no learning": (
        GOOD + '[sampling]\nmethod = "exact"\n[learning]\nkeep_data = true\n',
        1,
        ["[learning] keep_data = true", '"exact"', "remove"],
    ),
    "not a number": (GOOD.replace("0.05", "nan"), 1, ["[ensemble] temperature", "finite"]),
    "infinite": (GOOD + "[hamiltonian]\nJ = inf\n", 1, ["[hamiltonian] J", "finite"]),
    "shape below 2": (
        GOOD.replace("[6, 6]", "[6, 1]"),
        1,
        ["[lattice] shape = [6, 1]", "at least 2 sites"],
    ),
    "shape of three": (
        GOOD.replace("[6, 6]", "[6, 6, 6]"),
        1,
        ["[lattice] shape = [6, 6, 6]", "2 lattice vectors"],
    ),
    "shape is a number": (GOOD.replace("[6, 6]", "6"), 1, ["[lattice] shape = 6", "two integers"]),
    "fractional shape": (
        GOOD.replace("[6, 6]", "[6, 6.5]"),
        1,
        ["[lattice] shape (entry 2)", "integer"],
    ),
    "shape missing": (
        "[lattice]\n[ensemble]\ntemperature = 1\n",
        1,
        ["[lattice] shape is missing"],
    ),
    "section missing": ("[lattice]\nshape = [4, 4]\n", 1, ["[ensemble] is missing"]),
    "zero chains": (
        GOOD + "[sampling]\nchains = 0\n",
        1,
        ["[sampling] chains", "greater than or equal to 1"],
    ),
    "one chain cannot validate": (
        GOOD + "[sampling]\nchains = 1\n",
        1,
        ["chains = 1", "at least 2"],
    ),
    "ranks do not divide chains": (
        GOOD + "[sampling]\nchains = 64\n",
        3,
        ["chains = 64", "3 ranks", "63 or 66"],
    ),
    "more ranks than chains": (
        GOOD + "[sampling]\nchains = 8\n",
        16,
        ["chains = 8", "16 ranks", "use 16 chains"],
    ),
    "zero samples": (
        GOOD + "[sampling]\nsamples = 0\n",
        1,
        ["[sampling] samples", "greater than or equal to 1"],
    ),
    "bins too large": (
        GOOD + "[sampling]\nbin_size = 300\n",
        1,
        ["samples = 1000 in bins of 300", "at least 1200"],
    ),
    "seed too large": (
        GOOD + "[sampling]\nseed = 4294967296\n",
        1,
        ["[sampling] seed", "less than 4294967296"],
    ),
    "unknown model": (
        GOOD + '[effective]\nmodel = "atention"\n',
        1,
        ["[effective] model = 'atention'", "did you mean 'attention', or is --import missing?"],
    ),
    "unknown weight": (
        GOOD + '[weight]\nmethod = "kpm"\n',
        1,
        ["[weight] method = 'kpm'", "auto, diagonalise, blocks, matsubara, scalapack", "--import"],
    ),
    "a model that is no text": (
        GOOD + "[effective]\nmodel = 3\n",
        1,
        ["[effective] model = 3", "string"],
    ),
    "no forces": (
        GOOD + '[weight]\nmethod = "scalapack"\n',
        1,
        ["scalapack", "no forces", '"blocks"'],
    ),
    "nothing to share": (
        GOOD + '[weight]\nmethod = "diagonalise"\n[sampling]\nranks_per_chain = 2\n',
        2,
        ["ranks_per_chain", '"blocks"'],
    ),
    "ranks not in groups": (
        GOOD + "[sampling]\nranks_per_chain = 2\n",
        3,
        ["3 ranks", "ranks_per_chain = 2", "2 or 4 ranks"],
    ),
    "groups do not divide chains": (
        GOOD + "[sampling]\nranks_per_chain = 2\n",
        6,
        ["3 groups of 2 ranks", "63 or 66"],
    ),
    "layers of a linear model": (
        GOOD + '[effective]\nmodel = "linear"\nlayers = 2\n',
        1,
        ["layers", "attention"],
    ),
    "channels of attention": (GOOD + "[effective]\nchannels = 4\n", 1, ["channels", "messages"]),
    "nothing to start from": (GOOD + "[learning]\nrounds = 0\n", 1, ["rounds = 0", "start_from"]),
    "no such model": (
        GOOD + '[effective]\nstart_from = "nowhere.h5"\n',
        1,
        ["start_from = 'nowhere.h5'", "cannot read"],
    ),
    "small budget": (GOOD + "[learning]\nbudget = 63\n", 1, ["budget = 63", "at least 64"]),
    "too many shells": (GOOD + "[effective]\nshells = 12\n", 1, ["shells = 12", "6x6", "only 9"]),
    "heads of unequal size": (
        GOOD + '[effective]\nmodel = "gatr"\nheads = 3\n',
        1,
        ["heads = 3", "channels = 8"],
    ),
    "nothing to learn from": (GOOD + "[learning]\nenergy_weight = 0\n", 1, ["force_weight = 0"]),
    "batch too small": (
        GOOD + "[learning]\nbatch_size = 8\n",
        1,
        ["batch_size = 8", "at least 52"],
    ),
    "no validation chain": (
        GOOD + "[sampling]\nchains = 4\n[learning]\nvalidation_fraction = 0.1\n",
        1,
        ["validation_fraction = 0.1", "at least 0.25"],
    ),
    "validation of everything": (
        GOOD + "[learning]\nvalidation_fraction = 1\n",
        1,
        ["less than or equal to 0.5"],
    ),
    "no trajectory": (
        GOOD + "[sampling]\ntrajectory = 0\n",
        1,
        ["[sampling] trajectory", "greater than 0"],
    ),
    "not TOML": ("[lattice\nshape = [6, 6]", 1, ["not valid TOML", "line 1"]),
    "not text": (b"\xff\xfe\x00", 1, ["not UTF-8 text"]),
    "UTF-16": (GOOD.encode("utf-16"), 1, ["not UTF-8 text, but UTF-16: save it as UTF-8"]),
    "a misspelt section that has to be there": (
        GOOD.replace("[lattice]", "[lattise]"),
        1,
        ["no section or key 'lattise'", "did you mean 'lattice'"],
    ),
    "a misspelt key that has to be there": (
        GOOD.replace("shape", "shpae"),
        1,
        ["[lattice] has no key 'shpae'", "did you mean 'shape'"],
    ),
    "capitals": (
        GOOD.replace("[ensemble]", "[ENSEMBLE]"),
        1,
        ["no section or key 'ENSEMBLE'", "did you mean 'ensemble'"],
    ),
    "a key of another section": (
        GOOD + "[sampling]\nfilling = 0.9\n",
        1,
        ["[sampling] has no key 'filling'", "it belongs to [ensemble]"],
    ),
    "a key without its section": (
        "shape = [4, 4]\n[ensemble]\ntemperature = 1\n",
        1,
        ["no section or key 'shape'", "it belongs to [lattice]"],
    ),
    "empty": ("", 1, ["[lattice] is missing"]),
}


def write(tmp_path, text) -> str:
    path = tmp_path / "job.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_defaults_are_filled_in(tmp_path):
    job = load_job(write(tmp_path, GOOD))
    assert (job.finest.model, job.sampling.moves, job.sampling.chains) == (
        "determinants",
        None,
        64,
    )


def test_a_byte_order_mark_is_no_part_of_the_job(tmp_path):
    assert load_job(
        write(tmp_path, b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    ) == load_job(write(tmp_path, GOOD))


def test_nothing_is_validated_where_nothing_is_learned(tmp_path):
    """Of few chains, where a batch has to hold one of each, or of one."""
    save_model(tmp_path / "model.h5", make_effective("linear", Lattice((6, 6)), 3, 0), {})
    for chains in (1, 4):
        text = (
            GOOD
            + f'[effective]\nstart_from = "{tmp_path}"\n[learning]\nrounds = 0\nbatch_size = 1\n'
            f"[sampling]\nchains = {chains}\n"
        )
        assert load_job(write(tmp_path, text)).sampling.chains == chains
        with pytest.raises(UserError, match="batch_size" if chains == 4 else "2 chains"):
            load_job(write(tmp_path, text.replace("rounds = 0", "rounds = 1")))


def test_the_resolved_job_is_a_job_file(tmp_path):
    job = load_job(write(tmp_path, GOOD))
    assert load_job(write(tmp_path, job.toml())) == job
    assert Job.model_validate(job.model_dump(mode="json")) == job


def test_exact_moves_need_no_model(tmp_path):
    """Keys of learning, as a baseline's job file has them too, are not looked at."""
    keys = '[learning]\nrounds = 0\nbudget = 3\n[sampling]\nmethod = "exact"\n'
    job = load_job(write(tmp_path, GOOD + keys))
    assert (job.learning.rounds, job.learning.budget) == (0, 3)


@pytest.mark.parametrize("case", BAD)
def test_bad_job_files_get_one_sentence(case, tmp_path):
    text, ranks, parts = BAD[case]
    with pytest.raises(UserError) as error:
        load_job(write(tmp_path, text), ranks)
    sentence = str(error.value)
    assert "job.toml: " in sentence and "\n" not in sentence
    for part in parts:
        assert part in sentence, sentence


def test_unreadable_files(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        load_job(str(tmp_path / "absent.toml"))
    with pytest.raises(UserError, match="directory"):
        load_job(str(tmp_path))


def test_changes_that_a_resume_takes_and_refuses(tmp_path):
    old = load_job(write(tmp_path, GOOD))
    steered = load_job(
        write(tmp_path, GOOD + "[sampling]\nsamples = 2000\n[output]\nwall_time_s = 60.0\n")
    )
    assert changed_keys(old, steered) == (
        ["output.wall_time_s (was None, is 60.0)", "sampling.samples (was 1000, is 2000)"],
        [],
    )
    new = load_job(
        write(tmp_path, GOOD.replace("0.05", "0.06") + "[sampling]\nseed = 3\nsamples = 4\n")
    )
    assert changed_keys(old, new) == (
        ["sampling.samples (was 1000, is 4)"],
        ["ensemble.temperature (was 0.05, is 0.06)", "sampling.seed (was 1, is 3)"],
    )


@pytest.mark.parametrize("name", [name for name in MODELS if MODELS[name].is_density])
def test_a_variant_of_a_job_may_have_any_other_model(name, tmp_path):
    base = make_job(effective={"model": "attention", "layers": 1, "shells": 3, "heads": 2})
    job = variant(base, {"effective": {"model": name}}, tmp_path)
    assert job.effective.model == name and job.effective.shells == 3


def test_values_of_sites_belong_to_the_job(tmp_path):
    """A file that has changed makes another job, which a run does not go on with."""
    path = tmp_path / "sites.h5"

    def job_with(spins):
        with h5py.File(path, "w") as file:
            file["spin"] = spins
        text = GOOD + f'[hamiltonian]\nsite_file = "{path}"\n'
        return load_job(write(tmp_path, text), 1)

    spins = np.ones(36)
    job, same = job_with(spins), job_with(spins)
    assert job == same
    other = job_with(np.arange(36) % 2)
    taken, refused = changed_keys(job, other)
    assert not taken and len(refused) == 1 and "hamiltonian.site_digest" in refused[0]
    with pytest.raises(UserError, match="other values than site_digest says"):
        job_of(job.model_dump(mode="json", exclude_none=True))
    tables = job.model_dump(mode="json", exclude_none=True)
    del tables["hamiltonian"]["site_file"]
    with pytest.raises(UserError, match="site_digest belongs to values of a site_file"):
        job_of(tables)


@pytest.mark.parametrize(("chains", "fraction"), [(2, 0.5), (4, 0.25), (5, 0.2), (64, 0.2)])
def test_one_chain_of_few_validates_unless_the_job_says_how_many(chains, fraction):
    job = job_of(
        {
            "lattice": {"shape": [6, 6]},
            "ensemble": {"temperature": 0.1},
            "sampling": {"chains": chains},
        }
    )
    assert job.learning.validation_fraction == fraction
    assert job.learning.validation_chains(chains) == max(1, chains // 5)
