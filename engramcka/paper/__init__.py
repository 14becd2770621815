"""The Engram paper's published figures as results, to draw, browse and compare one's own with.

The values were read off the figures; README.md here says how and how exactly. Layers are blocks
counted from 1, as everywhere; the paper's Figure 4 counts them from 0, which is ``first_layer=0``
in a figure.
"""

from __future__ import annotations

import csv
from importlib import resources

import numpy as np

from engramcka.results import CkaMap, LensCurve, LossSweep

SOURCE = "arXiv 2601.07372"

_NOT_STATED = (
    "published without intervals, sample count or batch size; cells read off the figure to 0.001",
)


def published_maps() -> dict[str, CkaMap]:
    """Figures 4 (b) and (c) by the name of the Engram model; rows are MoE-27B's 30 layers."""
    return {
        model: CkaMap(
            np.array(_table(f"fig4{panel}_cka.csv"), dtype=np.float64),
            y_label="MoE-27B",
            x_label=model,
            estimator="minibatch",
            warnings=_NOT_STATED,
            provenance={"source": SOURCE, "figure": f"4 ({panel})"},
        )
        for panel, model in (("b", "Engram-27B"), ("c", "Engram-40B"))
    }


def published_sweep() -> LossSweep:
    """Figure 5: one 1.6B Engram module at each of 12 layers of a 3B MoE, and the ablations."""
    points = _table("fig5_sweep.csv")[1:]
    others: dict[str, dict[str, float]] = {"baseline": {}, "reference": {}, "variant": {}}
    for kind, name, loss in _table("fig5_variants.csv")[1:]:
        others[kind][name] = float(loss)
    ((baseline_label, baseline),) = others["baseline"].items()
    return LossSweep(
        layers=tuple(int(layer) for layer, _ in points),
        loss=np.array([float(loss) for _, loss in points]),
        baseline=np.array([baseline]),
        label="3B MoE + 1.6B Engram",
        baseline_label=baseline_label,
        reference=others["reference"],
        variants=others["variant"],
        provenance={"source": SOURCE, "figure": "5"},
    )


def published_lens() -> dict[str, LensCurve]:
    """Figure 4 (a) by model: KL divergence at the first 29 blocks, nats; its direction unknown."""
    header, *rows = _table("fig4a_kl.csv")
    values = np.array(rows, dtype=np.float64)
    names = {"moe_27b": "MoE-27B", "engram_27b": "Engram-27B", "engram_40b": "Engram-40B"}
    return {
        names[column]: LensCurve(
            layers=tuple(int(layer) + 1 for layer in values[:, 0]),
            kl=values[:, i + 1],
            label=names[column],
            direction="unknown",
            warnings=(
                "published without intervals, token count or the direction of the divergence; "
                "read off the figure to 0.001",
            ),
            provenance={"source": SOURCE, "figure": "4 (a)"},
        )
        for i, column in enumerate(header[1:])
    }


def _table(name: str) -> list[list[str]]:
    text = (resources.files(__name__) / name).read_text("utf-8")
    return [row for row in csv.reader(text.splitlines()) if row]
