"""A config as pieces of work in the order they are done. Loads neither torch nor models.

Everything that can be refused is refused here, before anything is written: unknown presets,
insertion layers a model has not got, stores of another config in the way.
"""

from __future__ import annotations

from pathlib import Path

from engramcka.config import Config
from engramcka.pipeline.checks import check_data, check_memory, check_models, check_pairs
from engramcka.pipeline.pieces import Piece
from engramcka.pipeline.stages.allocation import allocation_pieces
from engramcka.pipeline.stages.cka import cka_pieces
from engramcka.pipeline.stages.extract import extract_pieces
from engramcka.pipeline.stages.figures import figure_pieces
from engramcka.pipeline.stages.gates import gates_pieces
from engramcka.pipeline.stages.lens import lens_pieces
from engramcka.pipeline.stages.sweep import sweep_pieces
from engramcka.pipeline.stages.tokenizer import tokenizer_piece
from engramcka.pipeline.stages.train import train_pieces
from engramcka.pipeline.units import model_units


def make_plan(config: Config) -> list[Piece]:
    """The pieces of a run, in order.

    Raises:
        ConfigError: a preset or a layer that does not exist.
        StoreError: something in the run directory was made from another config.
    """
    check_models(config)
    check_data(config)
    check_pairs(config)
    check_memory(config)
    run = Path(config.run.dir)
    units = model_units(config)
    pieces = [tokenizer_piece(config, run)] if units else []
    seen: set[str] = set()
    pieces += train_pieces(config, run, units, seen)
    for name in extracted_models(config):
        pieces += extract_pieces(config, run, name, units.get(name))
    for cka in config.cka:
        pieces += cka_pieces(config, run, cka, units)
    for lens in config.lens:
        pieces += lens_pieces(config, run, lens, units)
    for gates in config.gates:
        pieces += gates_pieces(config, run, gates, units)
    for sweep in config.sweep:
        pieces += sweep_pieces(config, run, sweep, seen)
    for allocation in config.allocation:
        pieces += allocation_pieces(config, run, allocation, seen)
    pieces += figure_pieces(config, run)
    return pieces


def extracted_models(config: Config) -> list[str]:
    """The models whose hidden states are stored: those of maps and lenses, and `unnamed_models`."""
    wanted = {*_compared(config), *unnamed_models(config)}
    return [name for name in config.models if name in wanted]


def unnamed_models(config: Config) -> list[str]:
    """The models that no table of the config names: what is wanted of them is hidden states."""
    named = _compared(config)
    named |= {name for gates in config.gates for name in gates.models}
    named |= {name for sweep in config.sweep for name in (sweep.model, *sweep.references)}
    named |= {allocation.model for allocation in config.allocation}
    return [name for name in config.models if name not in named]


def _compared(config: Config) -> set[str]:
    names = {name for cka in config.cka for name in (cka.y, cka.x)}
    return names | {name for lens in config.lens for name in (*lens.models, *lens.memory_off)}
