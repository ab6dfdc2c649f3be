"""SOAP: Adam in the slowly turning eigenbasis of Shampoo's preconditioner; the rate of steps."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

MOMENTUM, SECOND_MOMENT, PRECONDITIONER = 0.9, 0.99, 0.95
"""Decay per step of the mean gradient, its mean square, and the mean outer products."""
REFRESH_EVERY = 10
"""Steps between two updates of the eigenbases."""
DAMPING = 1e-3
"""Share of the mean eigenvalue added to L and R when their eigenbases turn.

Otherwise rounding could choose the basis of an empty space.
"""
EPSILON = 1e-6


class SOAP(torch.optim.Optimizer):
    r"""Second-order steps for matrices of parameters.

    For the gradient G of each matrix (a vector counts as one column), with L and R running means of
    G G^T and G^T G:

    .. math:: \Delta = -\eta\, Q_L \frac{Q_L^T M Q_R}{\sqrt{V} + \epsilon} Q_R^T

    M the running mean of G, V that of the squares of Q_L^T G Q_R, both with Adam's correction for
    the first steps, and Q the eigenvectors of L and R, approached from the unit matrix by one
    orthogonal iteration every 10 steps. The first gradient only starts L and R.

    Parameters
    ----------
    parameters : iterable of Tensor
    lr : float

    Notes
    -----
    All in the precision of the parameters, no step more sensitive to rounding than the gradient
    itself: ranks that add it up in another order arrive at the same parameters. Implementations for
    large networks decompose in single precision, from the eigenvectors of the first, almost
    singular L and R, and lose that. Vyas et al., arXiv:2409.11321.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closures
        """Take one step along the gradients that the parameters hold."""
        for group in self.param_groups:
            for parameter in group["params"]:
                gradient = (
                    parameter.grad.flatten(1) if parameter.ndim > 1 else parameter.grad[:, None]
                )
                state = self.state[parameter]
                if state:
                    parameter -= group["lr"] * self._update(state, gradient).reshape(
                        parameter.shape
                    )
                else:
                    self._start(state, gradient)

    def moments(self, parameters: Sequence[Tensor]) -> dict[str, dict[str, Tensor]]:
        """Return a copy of the running means of parameters, by their place in the sequence."""
        return {
            str(i): {name: value.clone() for name, value in self.state[p].items()}
            for i, p in enumerate(parameters)
            if self.state[p]
        }

    def load_moments(
        self, parameters: Sequence[Tensor], moments: dict[str, dict[str, Tensor]]
    ) -> None:
        """Take up running means that ``moments`` gave."""
        for place, state in moments.items():
            p = parameters[int(place)]
            # the step count stays on the CPU
            self.state[p] = {
                name: value if name == "step" else value.to(p.device)
                for name, value in state.items()
            }

    @staticmethod
    def _start(state: dict, gradient: Tensor) -> None:
        state["step"] = torch.zeros((), dtype=torch.int64)
        state["left"], state["right"] = gradient @ gradient.T, gradient.T @ gradient
        for side in ("left", "right"):
            state[f"{side}_basis"] = torch.eye(
                len(state[side]), dtype=gradient.dtype, device=gradient.device
            )
        state["mean"], state["square"] = torch.zeros_like(gradient), torch.zeros_like(gradient)

    @staticmethod
    def _update(state: dict, gradient: Tensor) -> Tensor:
        state["step"] += 1
        step, left, right = int(state["step"]), state["left_basis"], state["right_basis"]
        state["mean"].lerp_(gradient, 1.0 - MOMENTUM)
        state["square"].lerp_((left.T @ gradient @ right).square(), 1.0 - SECOND_MOMENT)
        scale = (state["square"] / (1.0 - SECOND_MOMENT**step)).sqrt() + EPSILON
        update = left @ (left.T @ state["mean"] @ right / (1.0 - MOMENTUM**step) / scale) @ right.T
        state["left"].lerp_(gradient @ gradient.T, 1.0 - PRECONDITIONER)
        state["right"].lerp_(gradient.T @ gradient, 1.0 - PRECONDITIONER)
        if step % REFRESH_EVERY == 0:
            for axis, side in enumerate(("left", "right")):
                outer, basis = state[side], state[f"{side}_basis"]
                turned = outer @ basis + DAMPING * outer.diagonal().mean() * basis
                # largest eigenvalues first, as an orthogonal iteration would sort them in the end,
                # by way of an instability
                order = (basis * turned).sum(0).argsort(descending=True, stable=True)
                state[f"{side}_basis"] = torch.linalg.qr(
                    turned[:, order]
                ).Q.contiguous()  # as it comes back from a checkpoint
                state["square"] = state["square"].index_select(axis, order)
        return update


def schedule(progress: float) -> float:
    """Return the share of the peak learning rate at a progress in [0, 1].

    Linear warm-up over a tenth, then a cosine to zero.
    """
    return (
        progress / 0.1
        if progress < 0.1
        else 0.5 * (1.0 + math.cos(math.pi * (progress - 0.1) / 0.9))
    )
