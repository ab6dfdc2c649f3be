"""Every way to sample an exact weight."""

import torch
from helpers import make_diagonalise, make_effective

from hpcslmc.sampling import HMC, SLMC, Metropolis, Move
from hpcslmc.streams import Stream
from hpcslmc.weight.diagonalise import Diagonalise


def make_moves(weight: Diagonalise, chains: int) -> dict[str, Move]:
    """By name; the models are not trained, which may cost acceptance but no exactness."""

    def stream(purpose: str) -> Stream:
        return Stream(11, torch.arange(chains), purpose)

    def model(name: str):
        made = make_effective(name, weight.hamiltonian.lattice, 2, 1)
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.copy_(
                    0.1
                    * Stream(3, torch.zeros(1, dtype=torch.int64), name).normal(*parameter.shape)[0]
                )
        return made

    def guided(model) -> HMC:
        return HMC(model, stream("inner"), 1.5, 0.75, model.guide)

    single = model("determinants")
    single.single = True
    return {
        "hmc": HMC(weight, stream("hmc"), 1.5, 0.5),
        "hmc, guided": HMC(weight, stream("guided"), 1.5, 0.75, guide=model("messages").guide),
        "metropolis": Metropolis(weight, stream("metropolis"), 1.0),
        "slmc, linear, hmc": SLMC(
            weight, HMC(model("linear"), stream("inner"), 1.5, 0.5), stream("test"), 2
        ),
        "slmc, attention, hmc": SLMC(
            weight, HMC(model("attention"), stream("inner"), 1.5, 0.5), stream("test"), 2
        ),
        "slmc, messages, guided hmc": SLMC(weight, guided(model("messages")), stream("test"), 2),
        "slmc, determinants, hmc": SLMC(
            weight, HMC(model("determinants"), stream("inner"), 1.5, 0.5), stream("test"), 2
        ),
        "slmc, determinants in single precision, then in double": SLMC(
            weight,
            SLMC(
                model("determinants"),
                HMC(single, stream("inner"), 1.5, 0.5),
                stream("level"),
                1,
                screens=True,
            ),
            stream("test"),
            2,
        ),
        "slmc, three levels": SLMC(
            weight,
            SLMC(
                model("determinants"),
                SLMC(
                    model("attention"),
                    guided(model("messages")),
                    stream("screen"),
                    1,
                    screens=True,
                ),
                stream("level"),
                2,
            ),
            stream("test"),
            2,
        ),
        "slmc, attention, metropolis": SLMC(
            weight, Metropolis(model("attention"), stream("inner"), 1.5), stream("test"), 1
        ),
        "slmc, cnn, metropolis": SLMC(
            weight, Metropolis(model("cnn"), stream("inner"), 1.5), stream("test"), 2
        ),
    }


MOVES = list(make_moves(make_diagonalise((2, 2)), 1))
