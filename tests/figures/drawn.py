"""Small results to draw, and a look at the pixels drawn."""

from io import BytesIO

import numpy as np
from matplotlib.image import imread

from engramcka.figures import figure_bytes
from engramcka.results import CkaMap, LensCurve, LossSweep


def made_map(y=6, x=6, groups=0, **fields):
    """A map with a bright band, and a jackknife that moves a little around it."""
    rng = np.random.default_rng(3)
    i = np.arange(y)[:, None] / max(y - 1, 1)
    j = np.arange(x)[None, :] / max(x - 1, 1)
    similarity = 0.1 + 0.8 * np.exp(-(((i - 0.8 * j - 0.1) / 0.3) ** 2))
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
