"""Small results to draw, and a look at the pixels drawn."""

from io import BytesIO

import numpy as np
from matplotlib.image import imread

from engramcka.figures import figure_bytes
from engramcka.results import (
    AllocationSweep,
    CkaMap,
    GateMap,
    GateText,
    LensCurve,
    LossSweep,
    MemoryAblation,
    TrainingCurve,
)


def made_map(y=6, x=6, groups=0, shift=0.1, **fields):
    """A map with a bright band, and a jackknife that moves a little around it."""
    rng = np.random.default_rng(3)
    i = np.arange(y)[:, None] / max(y - 1, 1)
    j = np.arange(x)[None, :] / max(x - 1, 1)
    similarity = 0.1 + 0.8 * np.exp(-(((i - 0.8 * j - shift) / 0.3) ** 2))
    jackknife = similarity + rng.normal(0, 0.002, (groups, y, x)) if groups else None
    fields = {"y_label": "MoE", "x_label": "Engram", **fields}
    return CkaMap(similarity, jackknife=jackknife, **fields)


def made_sweep(seeds=3, baseline=(1.85, 1.86, 1.855), **fields):
    rng = np.random.default_rng(4)
    loss = 1.77 + 0.001 * np.arange(12)[:, None] + rng.normal(0, 0.0004, (12, seeds))
    return LossSweep(
        layers=tuple(range(1, 13)),
        loss=loss,
        baseline=baseline,
        seeds=tuple(range(seeds)),
        **fields,
    )


def made_lens(layers=12, label="MoE", shift=0.0, interval=0.2, **fields):
    """A falling divergence that ends at zero, entropy and agreement, with intervals."""
    x = np.arange(1, layers + 1) / layers
    readings = {
        "kl": (9.0 + shift) * (1 - x) ** 1.5,
        "entropy": 3.0 + 4 * x * (1 - x) + shift,
        "top1": np.clip(x**2, 0, 1),
    }
    ends = {
        f"{name}{end}": values + sign * interval * (1 - x)
        for name, values in readings.items()
        for end, sign in (("_low", -1), ("_high", 1))
    }
    fields = {**readings, **(ends if interval else {}), "n_tokens": 4096, **fields}
    return LensCurve(layers=tuple(range(1, layers + 1)), label=label, **fields)


def pixels(figure, dpi=100):
    """(height, width, 3) float colours, the top row first."""
    return imread(BytesIO(figure_bytes(figure, "png", dpi)))[..., :3]


def looked_at(figure, dpi=100):
    """A function (axes, x, y) -> the RGB drawn at these data coordinates."""
    image = pixels(figure, dpi)

    def at(ax, x, y):
        column, row = ax.transData.transform((x, y)) * dpi / figure.dpi
        return image[round(image.shape[0] - 1 - row), round(column)]

    return at


def made_allocation(seeds=3, **fields):
    rho = np.array([0.4, 0.6, 0.7, 0.8, 0.9, 1.0])
    rng = np.random.default_rng(5)
    loss = 1.71 + 0.4 * (rho[:, None] - 0.75) ** 2 + rng.normal(0, 0.0005, (6, seeds))
    fields = {"experts": (30, 43, 50, 57, 65, 72), "label": "3B", **fields}
    return AllocationSweep(rho, loss, seeds=tuple(range(seeds)), **fields)


def made_training(label="MoE", shift=0.0, steps=200):
    step = np.arange(1.0, steps + 1)
    checks = np.linspace(0, steps, 5)
    noise = 0.1 * np.sin(7.0 * step)
    return TrainingCurve(
        step, 4 + 5 * np.exp(-step / 40) + shift + noise,
        checks, 4.1 + 5 * np.exp(-checks / 40) + shift, label=label,
    )  # fmt: skip


def made_memory(label="Engram", shift=0.0, **fields):
    on = np.array([2.0, 1.5, 2.2])
    gain = np.array([0.3, 1.1, 0.02]) + shift
    fields = {
        "difference_low": gain - 0.05, "difference_high": gain + 0.05,
        "counts": (9000, 4000, 5000), **fields,
    }  # fmt: skip
    return MemoryAblation(
        ("all", "inside an entity", "outside"), on, on + gain, label=label, **fields
    )


def made_text(tokens, modules=2, streams=4):
    """Gates that rise over the text, other streams a little higher."""
    rising = np.linspace(0.05, 0.9, len(tokens))[:, None, None]
    apart = 0.02 * np.arange(streams) + 0.03 * np.arange(modules)[:, None]
    return GateText(tuple(tokens), np.clip(rising + apart, 0, 1))


def made_gates(types=("all", "outside", "person"), texts=None, **fields):
    alpha = np.linspace(0.2, 0.8, len(types))[:, None, None] + np.zeros((1, 2, 4))
    alpha = alpha + 0.03 * np.arange(4) + 0.05 * np.arange(2)[:, None]
    texts = (made_text(["Alexander", " the", " Great", "."]),) if texts is None else texts
    fields = {
        "alpha_low": alpha - 0.02, "alpha_high": alpha + 0.03,
        "counts": tuple(range(100, 100 + len(types))), "orders": (2, 3),
        "order_share": [[0.4, 0.6], [0.1, 0.9]], "collisions": [[0.02, 0.3], [0.03, 0.2]],
        "label": "Engram", **fields,
    }  # fmt: skip
    return GateMap((2, 15), types, alpha, texts=texts, **fields)
