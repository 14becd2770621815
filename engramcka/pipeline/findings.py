"""What a run found, in rows for a person: one short line a result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engramcka.results import CkaMap, LossSweep
from engramcka.stores import layout, open_run


@dataclass(frozen=True)
class Finding:
    """One result: its name, what it says and the figure that shows it."""

    name: str
    text: str
    figure: str


def findings(run: Path) -> Iterator[Finding]:
    """Every stored result of a run, read from disk."""
    stored = open_run(run)
    for name, cka in stored.cka.items():
        yield Finding(f"cka/{name}", describe_cka(cka), _figure(run, "cka", name))
    for name, sweep in stored.sweep.items():
        yield Finding(f"sweep/{name}", describe_sweep(sweep), _figure(run, "sweep", name))


def describe_cka(cka: CkaMap) -> str:
    """A map in a sentence: its size, its diagonal and where the columns align."""
    rows, columns = cka.similarity.shape
    text = f"{cka.y_label} x {cka.x_label}, {rows} x {columns} layers"
    if cka.n_samples:
        text += f", n = {cka.n_samples}"
    if cka.y_layers == cka.x_layers:
        text += f"; mean on the diagonal {np.nanmean(np.diag(cka.similarity)):.3f}"
    shift = cka.alignment_shift()
    text += f"; alignment shift {shift.estimate:+.2f} layers"
    if np.isfinite(shift.ci_low):
        text += f" (95 % {shift.ci_low:+.2f} to {shift.ci_high:+.2f})"
    return text + (f"; {len(cka.warnings)} warnings" if cka.warnings else "")


def describe_sweep(sweep: LossSweep) -> str:
    """A sweep in a sentence: the baseline and the best insertion layer, in nats a token."""
    best = sweep.best
    found = f"best at layer {best[0]}: {best[1]:.3f}" if best else "no point yet"
    if np.isfinite(sweep.baseline_mean):
        found = f"{sweep.baseline_label} {sweep.baseline_mean:.3f}, {found}"
    seeds = f"{len(sweep.seeds)} seed{'s' * (len(sweep.seeds) > 1)}"
    return f"validation loss in {sweep.unit}, {seeds}: {found}"


def _figure(run: Path, kind: str, name: str) -> str:
    path = run / layout.FIGURES / f"{kind}-{name}.png"
    return str(path) if path.is_file() else ""
