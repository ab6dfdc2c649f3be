"""Random images of configurations under the lattice symmetries of their weight."""

from dataclasses import replace

from torch import Tensor

from hpcslmc.density import Evaluation
from hpcslmc.streams import Stream


class RandomImages:
    """Show chains as random images, on which single momenta are as often as their equals.

    W(g S) = W(S) for every symmetry g, so that draws S of W with g drawn anew for each, whatever S
    is, are draws g S of W. Where one of several equivalent orders becomes another one slowly, the
    images know all of them.

    Parameters
    ----------
    symmetries : (operations, sites) int64
        Site permutations that leave the weight as it is.
    stream : Stream
    """

    def __init__(self, symmetries: Tensor, stream: Stream) -> None:
        self.symmetries, self.stream = symmetries, stream

    def of(self, spins: Tensor, evaluation: Evaluation) -> tuple[Tensor, Evaluation]:
        """Return an image of every chain's spins (chains, sites, 3), and its evaluation."""
        which = (self.stream.uniform() * len(self.symmetries)).long()
        sites = self.symmetries[which][:, :, None].expand_as(spins)
        forces = None if evaluation.forces is None else evaluation.forces.gather(1, sites)
        return spins.gather(1, sites), replace(evaluation, forces=forces)

    def state_dict(self) -> dict:
        return {"stream": self.stream.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self.stream.load_state_dict(state["stream"])
