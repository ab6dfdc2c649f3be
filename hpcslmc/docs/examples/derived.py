"""A derived quantity of one's own: the susceptibility of scalar chirality."""

import numpy as np

from hpcslmc import Lattice, run_job
from hpcslmc.measure.derived import Derived
from hpcslmc.measure.registry import DERIVED


class ChiralSusceptibility(Derived):
    """beta N (<chi^2> - <chi>^2), chi the scalar chirality per plaquette."""

    name, label = "susceptibility_chiral", "susceptibility of scalar chirality [1/t]"
    inputs = ("scalar_chirality", "scalar_chirality2")

    def value(self, means):
        variance = means["scalar_chirality2"] - means["scalar_chirality"] ** 2
        return self.beta * self.lattice.sites * variance


DERIVED[ChiralSusceptibility.name] = ChiralSusceptibility

if __name__ == "__main__":
    known = {"scalar_chirality": np.array(0.1), "scalar_chirality2": np.array(0.03)}
    assert np.isclose(ChiralSusceptibility(Lattice((4, 4)), 10.0, 0.0).value(known), 3.2)
    job = {"lattice": {"shape": [4, 4]}, "ensemble": {"temperature": 0.1}}
    job |= {"sampling": {"method": "exact", "chains": 4, "samples": 20}}
    summary = run_job(job | {"measure": {"susceptibility_chiral": 1}}).summary
    found = [float(summary.of("susceptibility_chiral", column)) for column in ("mean", "error")]
    print("susceptibility: {:.4f} +- {:.4f}".format(*found))
