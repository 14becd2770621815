"""Expert load: how evenly tokens spread over the experts, and two ways to even it out.

Routers are found by what they are, in any mixture of experts of transformers; their choices are
read by forward hooks in training mode.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from engramcka.config.training_tables import Balancing
from engramcka.errors import ConfigError
from engramcka.training import ranks

_BIAS = "e_score_correction_bias"


class ExpertLoads:
    """Counts each expert's tokens and evens them out as asked.

    "loss-free": after each step the bias that a router adds to its scores when it chooses (not
    when it weights) goes up by ``rate`` for experts with less than the mean load and down for
    those with more (DeepSeek-V3 report, section 2.1.2).

    "auxiliary": ``rate`` x E / (k T) x sum over experts of (tokens sent to it) x (mean of its share
    of the scores) is added to the loss, averaged over the routers, with E experts, k choices a
    token and T tokens of this rank's batch (Switch Transformer, equations 4 to 6, with the
    router's own scores and choices).

    A router whose weight does not learn, as of a base that is frozen, is counted and left alone.

    Args:
        model: with routers or without; without, there is nothing to do.
        balancing: "loss-free", "auxiliary" or "none", which only counts.
        rate: of the bias, or weight of the auxiliary loss.

    Raises:
        ConfigError: loss-free, and a router that learns has no such bias.
    """

    def __init__(self, model: nn.Module, balancing: Balancing, rate: float) -> None:
        self.routers: list[Any] = [module for module in model.modules() if _is_router(module)]
        self._learns = [router.weight.requires_grad for router in self.routers]
        without = [
            router
            for router, learns in zip(self.routers, self._learns, strict=True)
            if learns and not hasattr(router, _BIAS)
        ]
        if balancing == "loss-free" and without:
            raise ConfigError(
                f"training.balancing = 'loss-free': {type(without[0]).__name__} has no bias that "
                "its choices are made with; allowed for this model: 'auxiliary', 'none'"
            )
        self._balancing, self._rate = balancing, rate
        self._of_step: dict[int, Tensor] = {}  # router -> (experts,) counts of this step
        self._auxiliary: list[Tensor] = []
        self._pending: list[Tensor] = []  # (experts,) a router, since the last reading
        self._hooks = [
            router.register_forward_hook(
                lambda module, args, output, number=number: self._see(number, module, output)
            )
            for number, router in enumerate(self.routers)
        ]

    def close(self) -> None:
        """Take the hooks off the model."""
        for hook in self._hooks:
            hook.remove()

    def _see(self, number: int, router: Any, output: tuple[Tensor, ...]) -> None:
        if not router.training:
            return
        logits, chosen = output[0], output[-1]
        counts = torch.zeros(router.num_experts, dtype=torch.int64, device=chosen.device)
        counts.scatter_add_(0, chosen.flatten(), torch.ones_like(chosen.flatten()))
        before = self._of_step.get(number)
        self._of_step[number] = counts if before is None else before + counts
        if self._balancing == "auxiliary" and self._learns[number]:
            shares = _shares(router, logits.float()).mean(0)
            tokens_a_place = chosen.numel() / router.num_experts  # k T / E
            self._auxiliary.append((counts / tokens_a_place * shares).sum())

    def auxiliary_loss(self) -> Tensor | None:
        """What this step's forward pass adds to the loss; None if nothing."""
        losses, self._auxiliary = self._auxiliary, []
        return self._rate * torch.stack(losses).mean() if losses else None

    @torch.no_grad()
    def end_step(self) -> None:
        """Add this step's counts, summed over all ranks, and move the biases."""
        counts = [ranks.sum_over_ranks(self._of_step[number]) for number in sorted(self._of_step)]
        self._of_step = {}
        if self._balancing == "loss-free":
            for router, learns, loads in zip(self.routers, self._learns, counts, strict=True):
                if not learns:
                    continue
                excess = loads.double() - loads.double().mean()
                bias = getattr(router, _BIAS)
                bias.sub_(self._rate * excess.sign().to(bias.dtype))
        pairs = zip(self._pending, counts, strict=True)
        self._pending = [before + now for before, now in pairs] if self._pending else counts

    def read(self) -> float | None:
        """Imbalance since the last reading; None without routers.

        Most loaded expert's tokens over the mean, less one, averaged over the routers: 0 is even
        (MaxVio; Wang et al. 2024, Auxiliary-Loss-Free Load Balancing, equation 4).
        """
        loads, self._pending = self._pending, []
        if not loads:
            return None
        return sum(float(one.max() / one.double().mean()) - 1.0 for one in loads) / len(loads)

    @property
    def pending(self) -> list[list[int]]:
        """Counts since the last reading, as plain values, to be put back after a resumption."""
        return [counts.tolist() for counts in self._pending]

    @pending.setter
    def pending(self, loads: list[list[int]]) -> None:
        device = self.routers[0].weight.device if self.routers else None
        self._pending = [torch.tensor(counts, device=device) for counts in loads]


def _is_router(module: Any) -> bool:
    """A linear map from the hidden state to one score an expert, that chooses the best few."""
    weight, experts = getattr(module, "weight", None), getattr(module, "num_experts", None)
    return (
        isinstance(weight, nn.Parameter)
        and isinstance(experts, int)
        and hasattr(module, "top_k")
        and weight.dim() == 2
        and weight.shape[0] == experts
    )


def _shares(router: Any, logits: Tensor) -> Tensor:
    """(T, E) scores as shares that sum to one over the experts."""
    if not hasattr(router, _BIAS):
        return logits.softmax(-1)
    scores: Tensor = router.score_fn(logits) if hasattr(router, "score_fn") else logits.sigmoid()
    return scores / (scores.sum(-1, keepdim=True) + 1e-20)
