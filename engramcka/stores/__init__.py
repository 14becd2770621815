"""The Zarr layouts of a run directory: reading and writing hidden states and results.

Knows nothing of models, torch or figures.
"""

from engramcka.stores.activations import (
    ActivationStore,
    LayerArray,
    create_activations,
    open_activations,
)
from engramcka.stores.results import read_cka, read_sweep, write_cka, write_sweep
from engramcka.stores.run import Run, is_run, open_run

__all__ = [
    "ActivationStore",
    "LayerArray",
    "Run",
    "create_activations",
    "is_run",
    "open_activations",
    "open_run",
    "read_cka",
    "read_sweep",
    "write_cka",
    "write_sweep",
]
