"""Small results to draw, and a look at the pixels drawn."""

from io import BytesIO

import numpy as np
from matplotlib.image import imread

from engramcka.figures import figure_bytes
from engramcka.results import CkaMap, LossSweep


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
