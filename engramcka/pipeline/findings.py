"""What a run found, in rows for a person: one short line a result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engramcka.results import CkaMap, GateMap, LensCurve, LossSweep, MemoryAblation
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
    for name, curve in stored.lens.items():
        yield Finding(f"lens/{name}", describe_lens(curve), _figure(run, "lens"))
    for name, gates in stored.gates.items():
        yield Finding(f"gates/{name}", describe_gates(gates), _figure(run, "gates", name))
    for name, memory in stored.memory.items():
        yield Finding(f"memory/{name}", describe_memory(memory), _figure(run, "memory", name))
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


def describe_lens(curve: LensCurve) -> str:
    """A lens curve in a sentence: the divergence early and halfway, and where guesses agree."""
    middle = (len(curve.layers) - 1) // 2
    places = [f"{curve.kl[place]:.2f} after layer {curve.layers[place]}" for place in (0, middle)]
    text = f"{curve.label}{'' if curve.memory else ' without memory'}: "
    text += f"KL({curve.direction.replace('||', ' || ')}) {', '.join(dict.fromkeys(places))} (nats)"
    if curve.top1 is not None and (curve.top1 >= 0.5).any():
        layer = curve.layers[int(np.argmax(curve.top1 >= 0.5))]
        text += f"; half of the first guesses are the model's from layer {layer} on"
    return text + (f"; {len(curve.warnings)} warnings" if curve.warnings else "")


def describe_gates(gates: GateMap) -> str:
    """Mean gates of every module in a sentence, and which order answers."""
    modules = []
    for place, layer in enumerate(gates.layers):
        means = gates.alpha[:, place].mean(axis=-1)
        text = f"layer {layer}: mean gate {means[gates.types.index('all')]:.3f}"
        if gates.order_share is not None:
            best = int(np.argmax(gates.order_share[place]))
            text += (
                f", {gates.order_share[place, best]:.0%} of the value by {gates.orders[best]}-grams"
            )
        modules.append(text)
    warned = f"; {len(gates.warnings)} warnings" if gates.warnings else ""
    return f"{gates.label}, {'; '.join(modules)}{warned}"


def describe_memory(memory: MemoryAblation) -> str:
    """What silencing the memory costs, by token class, in nats a token."""
    parts = []
    for place, name in enumerate(memory.classes):
        low, high = memory.difference_low, memory.difference_high
        text = f"{name} {memory.loss_off[place] - memory.loss_on[place]:+.3f}"
        if low is not None and high is not None and np.isfinite(low[place]):
            text += f" ({low[place]:+.3f} to {high[place]:+.3f})"
        parts.append(text)
    return f"{memory.label}, loss without memory: {', '.join(parts)}"


def describe_sweep(sweep: LossSweep) -> str:
    """A sweep in a sentence: the baseline and the best insertion layer, in nats a token."""
    best = sweep.best
    found = f"best at layer {best[0]}: {best[1]:.3f}" if best else "no point yet"
    if np.isfinite(sweep.baseline_mean):
        found = f"{sweep.baseline_label} {sweep.baseline_mean:.3f}, {found}"
    seeds = f"{len(sweep.seeds)} seed{'s' * (len(sweep.seeds) > 1)}"
    return f"validation loss in {sweep.unit}, {seeds}: {found}"


def _figure(run: Path, kind: str, name: str = "") -> str:
    """Path of a result's figure, or "" if it is not drawn; all curves of a kind may share one."""
    path = run / layout.FIGURES / (f"{kind}-{name}.png" if name else f"{kind}.png")
    return str(path) if path.is_file() else ""
