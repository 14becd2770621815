"""config.toml as typed, validated objects; a mistake in it is one line that points at it."""

from engramcka.config.loading import dump_config, load_config
from engramcka.config.schema import (
    AllocationTable,
    CapturedModel,
    CkaTable,
    Config,
    DataTable,
    EngramConfig,
    GatesTable,
    ImportedModel,
    LensTable,
    LoadedModel,
    PythonModel,
    SlotsTable,
    SweepTable,
    TrainedModel,
    TrainingTable,
)

__all__ = [
    "AllocationTable",
    "CapturedModel",
    "CkaTable",
    "Config",
    "DataTable",
    "EngramConfig",
    "GatesTable",
    "ImportedModel",
    "LensTable",
    "LoadedModel",
    "PythonModel",
    "SlotsTable",
    "SweepTable",
    "TrainedModel",
    "TrainingTable",
    "dump_config",
    "load_config",
]
