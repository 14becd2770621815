"""The figures that are compared with kept pictures; run as a script, it draws these pictures again.

    python tests/figures/gallery.py

Look at every picture that changed before it is kept.
"""

from pathlib import Path

import numpy as np
from drawn import (
    made_allocation,
    made_gates,
    made_lens,
    made_map,
    made_memory,
    made_sweep,
    made_text,
    made_training,
)

from engramcka.figures import (
    READINGS,
    Style,
    cka_figure,
    difference_figure,
    figure_bytes,
    gate_text_figure,
    gates_figure,
    lens_figure,
    memory_figure,
    paper_figure,
    result_figure,
    series_figure,
    sweep_figure,
    training_figure,
)
from engramcka.paper import published_lens, published_maps, published_sweep

BASELINES = Path(__file__).parent / "baselines"
DPI = 54
ICML, DARK = Style.named("icml"), Style.named("plain", dark=True)


def holed():
    """A map with a row and a cell that no value exists for."""
    cka = made_map(12, 12, groups=6)
    cka.similarity[4] = np.nan
    cka.similarity[9, 2] = np.nan
    return cka


def paper():
    return paper_figure(
        list(published_maps().values()),
        published_sweep(),
        Style.named("icml", width="page"),
        lens=list(published_lens().values()),
        first_layer=0,
    )


FIGURES = {
    "map-holes": lambda: cka_figure(holed(), ICML),
    "map-1": lambda: cka_figure(made_map(1, 1)),
    "map-80": lambda: cka_figure(made_map(80, 80, groups=4), ICML),
    "map-200-dark": lambda: cka_figure(made_map(200, 200), DARK, palette="viridis"),
    "difference": lambda: difference_figure(made_map(8, 8), made_map(8, 8, shift=0.2)),
    "series": lambda: series_figure(
        [made_map(8, 8, shift=0.1 * i, series="s", step=100 * i) for i in range(4)], ICML
    ),
    "lens": lambda: lens_figure(
        [made_lens(30), made_lens(30, "Engram", -1.0), made_lens(30, "Engram", -0.4, memory=False)],
        ICML,
        readings=READINGS,
    ),
    "lens-log-80": lambda: lens_figure([made_lens(80)], DARK, log=True),
    "sweep": lambda: sweep_figure(published_sweep(), ICML),
    "sweep-seeds": lambda: sweep_figure(made_sweep()),
    "allocation": lambda: result_figure(made_allocation(), ICML),
    "training": lambda: training_figure([made_training(), made_training("Engram", -0.3)], ICML),
    "memory": lambda: memory_figure([made_memory(), made_memory("Engram-40B", 0.2)]),
    "gates": lambda: gates_figure(made_gates(), ICML),
    "text": lambda: gate_text_figure(
        made_gates(texts=(made_text(["Alexander", " the", " Great", " ($x_1$", ")", "."]),
                          made_text(["שלום", " עולם", " (336", " BC", ")"]))), DARK
    ),
    "paper": paper,
}  # fmt: skip


def write_all():
    BASELINES.mkdir(exist_ok=True)
    for name, draw in FIGURES.items():
        (BASELINES / f"{name}.png").write_bytes(figure_bytes(draw(), "png", DPI))


if __name__ == "__main__":
    write_all()
