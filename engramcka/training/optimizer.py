"""The optimisers: AdamW on everything, or Muon on the matrices, and the learning rate's course.

Muon is torch's, which takes matrices alone. transformers keeps a layer's experts stacked, with the
gate's and the up-projection's rows in one tensor; each expert's matrix is orthogonalised by itself,
as it would be if the experts were modules of their own. AdamW is torch's fused one: the same update
as the plain one but for rounding, in one pass over the parameters; tables in host memory it passes
over in blocks (`engramcka.training.table_rows`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from engramcka.config import TrainingTable
from engramcka.models import parameter_groups
from engramcka.training.table_rows import TableAdamW

_ADAM: dict[str, Any] = {"betas": (0.9, 0.95), "eps": 1e-8, "fused": True}


def make_optimizer(
    model: Any, options: TrainingTable
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """The optimiser and the schedule of the learning rate that the options name."""
    groups = parameter_groups(model, options.learning_rate, options.weight_decay)
    optimizer: torch.optim.Optimizer
    if options.optimizer == "muon":
        optimizer = MuonAdamW(model, groups)
    else:
        optimizer = TableAdamW(groups, **_ADAM)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_share(step, options))
    return optimizer, schedule


def rate_share(step: int, options: TrainingTable) -> float:
    """Share of the peak rate after ``step`` steps.

    Linear warm-up, then "cosine", half a cosine down to a tenth, or "step", which multiplies by
    ``decay_factor`` after each share ``decay_at`` of all steps (DeepSeek-V2 report, section 3.1.2;
    the Engram paper names step decay and prints no numbers).
    """
    warmup, steps = options.warmup_steps, options.steps
    if step < warmup:
        return (step + 1) / warmup
    if options.schedule == "step":
        passed = sum(step >= round(share * steps) for share in options.decay_at)
        return float(options.decay_factor**passed)
    through = (step - warmup) / max(1, steps - warmup)
    return 0.1 + 0.45 * (1.0 + math.cos(math.pi * min(1.0, through)))


class MuonAdamW(torch.optim.Optimizer):
    """Muon on hidden matrices, AdamW on embeddings, head, norms and Engram tables, as one.

    Muon's step is scaled to AdamW's root mean square (Liu et al. 2025, Muon is Scalable for LLM
    Training, section 2.2), so that a learning rate means the same under both.

    Args:
        model: a causal LM.
        groups: those of `parameter_groups`; of ``matrices``, all but the head go to Muon.
    """

    def __init__(self, model: Any, groups: list[dict[str, Any]]) -> None:
        head = model.get_output_embeddings()
        names = {id(p): name for name, p in model.named_parameters()}
        split: list[dict[str, Any]] = []
        for group in groups:
            if group["name"] != "matrices":
                split.append(group)
                continue
            is_hidden = [p.dim() <= 3 and p is not head.weight for p in group["params"]]
            for name, wanted in (("matrices", True), ("other-matrices", False)):
                some = [p for p, h in zip(group["params"], is_hidden, strict=True) if h is wanted]
                if some:
                    split.append({**group, "name": name, "params": some})
        super().__init__(split, {})
        self._parts = [
            (parameter, cut, nn.Parameter(torch.empty(0, 0), requires_grad=False))
            for parameter in self._of("matrices")[0]["params"]
            for cut in _cuts(parameter, names[id(parameter)])
        ]
        self._muon = torch.optim.Muon(
            [{**self._of("matrices")[0], "params": [part for _, _, part in self._parts]}],
            adjust_lr_fn="match_rms_adamw",
        )
        self._adam = TableAdamW([dict(group) for group in self._of("rest")], **_ADAM)

    def _of(self, kind: str) -> list[dict[str, Any]]:
        """The groups of one kind: "matrices", or "rest" for all others."""
        wanted = kind == "matrices"
        return [group for group in self.param_groups if (group["name"] == "matrices") is wanted]

    def _refresh(self, with_gradients: bool) -> None:
        """Point the parts at their parameters' memory, which moves when the model does."""
        for parameter, cut, part in self._parts:
            part.data = cut(parameter.data)
            has_one = with_gradients and parameter.grad is not None
            part.grad = cut(parameter.grad) if has_one else None

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of both, at the rates of the groups."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for inner, kind in ((self._muon, "matrices"), (self._adam, "rest")):
            for own, group in zip(inner.param_groups, self._of(kind), strict=True):
                own["lr"], own["weight_decay"] = group["lr"], group["weight_decay"]
        self._refresh(with_gradients=True)
        self._muon.step()
        self._adam.step()
        self._refresh(with_gradients=False)
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The optimiser's state as plain containers and tensors."""
        inner = {"muon": self._muon.state_dict(), "adam": self._adam.state_dict()}
        return {**super().state_dict(), **inner}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._refresh(with_gradients=False)
        super().load_state_dict({key: state_dict[key] for key in ("state", "param_groups")})
        self._muon.load_state_dict(state_dict["muon"])
        self._adam.load_state_dict(state_dict["adam"])


def _cuts(parameter: Tensor, name: str) -> Iterator[Callable[[Tensor], Tensor]]:
    """Views that together cover a parameter, each a matrix that is one linear map."""
    if parameter.dim() == 2:
        yield lambda tensor: tensor
        return
    halves = 2 if name.endswith("gate_up_proj") and parameter.shape[1] % 2 == 0 else 1
    rows = parameter.shape[1] // halves
    for expert in range(parameter.shape[0]):
        for start in range(0, parameter.shape[1], rows):
            yield lambda tensor, e=expert, s=start: tensor[e, s : s + rows]  # type: ignore[misc]
