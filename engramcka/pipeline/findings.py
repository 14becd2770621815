"""What a run found, in rows for a person: one short line a result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engramcka.results import (
    AllocationSweep,
    CkaMap,
    GateMap,
    LensCurve,
    LossSweep,
    MemoryAblation,
)
from engramcka.results.statistics import Float
from engramcka.stores import layout, open_run


@dataclass(frozen=True)
class Finding:
    """One result: its name, what it says, what is doubtful, and the figure that shows it."""

    name: str
    text: str
    figure: str
    warnings: tuple[str, ...] = ()


def findings(run: Path) -> Iterator[Finding]:
    """Every stored result of a run, read from disk."""
    stored = open_run(run)
    for name, cka in stored.cka.items():
        yield Finding(f"cka/{name}", describe_cka(cka), _figure(run, "cka", name), cka.warnings)
    for name, curve in stored.lens.items():
        yield Finding(f"lens/{name}", describe_lens(curve), _figure(run, "lens"), curve.warnings)
    for name, gates in stored.gates.items():
        yield Finding(
            f"gates/{name}", describe_gates(gates), _figure(run, "gates", name), gates.warnings
        )
    for name, memory in stored.memory.items():
        yield Finding(
            f"memory/{name}",
            describe_memory(memory),
            _figure(run, "memory", name),
            memory.warnings,
        )
    for name, sweep in stored.sweep.items():
        yield Finding(f"sweep/{name}", describe_sweep(sweep), _figure(run, "sweep", name))
    for name, allocation in stored.allocation.items():
        text = describe_allocation(allocation)
        yield Finding(f"allocation/{name}", text, _figure(run, "allocation", name))


def describe_cka(cka: CkaMap) -> str:
    """A map in a sentence: its size, its diagonal and the nearest depth."""
    rows, columns = cka.similarity.shape
    text = f"{cka.y_label} x {cka.x_label}, {rows} x {columns} layers"
    if cka.n_samples:
        text += f", n = {cka.n_samples:,}"
    if cka.n_documents:
        text += f" of {cka.n_documents:,} documents"
    if cka.left_out:
        text += f" (left out: {cka.left_out})"
    if cka.y_layers == cka.x_layers and np.isfinite(np.diag(cka.similarity)).any():
        text += f"; mean on the diagonal {np.nanmean(np.diag(cka.similarity)):.3f}"
    return f"{text}; {cka.depth_shift().sentence}"


def describe_lens(curve: LensCurve) -> str:
    """A lens curve in a sentence: the divergence early and halfway, and where guesses agree."""
    middle = (len(curve.layers) - 1) // 2
    places = [f"{curve.kl[place]:.2f} after layer {curve.layers[place]}" for place in (0, middle)]
    text = f"{curve.label}{'' if curve.memory else ' without memory'}: "
    text += f"KL({curve.direction.replace('||', ' || ')}) {', '.join(dict.fromkeys(places))} (nats)"
    if curve.top1 is not None and (curve.top1 >= 0.5).any():
        layer = curve.layers[int(np.argmax(curve.top1 >= 0.5))]
        text += f"; half of the first guesses are the model's from layer {layer} on"
    return text


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
    return f"{gates.label}, {'; '.join(modules)}"


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
    """A sweep in a sentence: baseline, best layer, references, ablations and what is missing.

    Losses are in the sweep's unit, nats a token.
    """
    parts = []
    if np.isfinite(sweep.baseline_mean):
        parts.append(f"{sweep.baseline_label} {sweep.baseline_mean:.3f}")
    best = sweep.best
    if best is None:
        parts.append("no point yet")
    else:
        place = sweep.layers.index(best[0])
        gain = _gain(sweep, place)
        parts.append(f"best at layer {best[0]}: {best[1]:.3f}{_spread(sweep.loss[place])}{gain}")
    parts += [f"{name} {loss:.3f}" for name, loss in sweep.reference.items()]
    text = f"validation loss in {sweep.unit}, {_seeds(sweep.seeds)}: {', '.join(parts)}"
    there = [f"{name} {loss:.3f}" for name, loss in sweep.variants.items() if np.isfinite(loss)]
    if there:
        text += f"; {', '.join(there)}"
    return text + _missing(sweep.warnings)


def describe_allocation(sweep: AllocationSweep) -> str:
    """An allocation sweep in a sentence: the best share of experts, against experts alone."""
    parts = []
    alone = sweep.mean[sweep.rho == 1.0]
    if np.isfinite(alone).any():
        parts.append(f"experts alone {alone[0]:.3f}")
    best = sweep.best
    if best is None:
        parts.append("no point yet")
    else:
        point = int(np.nanargmin(sweep.mean))
        parts.append(f"best at rho = {best[0]:.2f}: {best[1]:.3f}{_spread(sweep.loss[point])}")
    text = f"validation loss in {sweep.unit}, {_seeds(sweep.seeds)}: {', '.join(parts)}"
    return text + _missing(sweep.warnings)


def _seeds(seeds: tuple[int, ...]) -> str:
    return f"{len(seeds)} seed{'s' * (len(seeds) > 1)}"


def _spread(losses: Float) -> str:
    """Standard deviation over the seeds, where there are several."""
    there = losses[np.isfinite(losses)]
    return f" (s.d. {np.std(there, ddof=1):.3f})" if len(there) > 1 else ""


def _gain(sweep: LossSweep, place: int) -> str:
    """A layer's difference from the baseline with its interval, where that is known."""
    low, high = sweep.difference_low, sweep.difference_high
    if low is None or high is None or not np.isfinite(low[place]):
        return ""
    return f", {sweep.difference[place]:+.3f} (95 % {low[place]:+.3f} to {high[place]:+.3f})"


def _missing(warnings: tuple[str, ...]) -> str:
    if not warnings:
        return ""
    return f"; {warnings[0]}" if len(warnings) == 1 else f"; {len(warnings)} points are missing"


def _figure(run: Path, kind: str, name: str = "") -> str:
    """Path of a result's figure, or "" if it is not drawn; all curves of a kind may share one."""
    path = run / layout.FIGURES / (f"{kind}-{name}.png" if name else f"{kind}.png")
    return str(path) if path.is_file() else ""
