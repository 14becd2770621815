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
    for name in config.models:
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
