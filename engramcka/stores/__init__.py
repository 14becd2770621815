"""The Zarr layouts of a run directory: reading and writing hidden states and results.

Names load on first use (PEP 562), so that the names of the layout can be read without zarr.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engramcka.lazy import attach

if TYPE_CHECKING:
    from engramcka.stores.activations import ActivationStore
    from engramcka.stores.create import create_activations
    from engramcka.stores.layer_arrays import LayerArray
    from engramcka.stores.open import open_activations
    from engramcka.stores.results import (
        read_cka,
        read_result,
        read_sweep,
        write_cka,
        write_result,
        write_sweep,
    )
    from engramcka.stores.run import Run, is_run, open_run

_HOMES = {
    "ActivationStore": "activations",
    "LayerArray": "layer_arrays",
    "Run": "run",
    "create_activations": "create",
    "is_run": "run",
    "open_activations": "open",
    "open_run": "run",
    "read_cka": "results",
    "read_result": "results",
    "read_sweep": "results",
    "write_cka": "results",
    "write_result": "results",
    "write_sweep": "results",
}

__all__ = [
    "ActivationStore",
    "LayerArray",
    "Run",
    "create_activations",
    "is_run",
    "open_activations",
    "open_run",
    "read_cka",
    "read_result",
    "read_sweep",
    "write_cka",
    "write_result",
    "write_sweep",
]

__getattr__, __dir__ = attach(__name__, __all__, _HOMES)
