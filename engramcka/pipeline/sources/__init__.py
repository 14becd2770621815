"""Where models come from: one class for each ``source`` that ``[models.NAME]`` may name.

A new source is a table in `engramcka.config.model_tables`, a file here and a line in `SOURCES`.
"""

from engramcka.config import Config
from engramcka.pipeline.sources.activations import ActivationsSource
from engramcka.pipeline.sources.base import Checkpoint, OpenModel, Shape, Source
from engramcka.pipeline.sources.grafted import GraftedSource
from engramcka.pipeline.sources.hf import HfSource
from engramcka.pipeline.sources.python import PythonSource
from engramcka.pipeline.sources.trained import TrainedSource

__all__ = ["SOURCES", "Checkpoint", "OpenModel", "Shape", "Source", "make_source"]

SOURCES: dict[str, type[Source]] = {
    "train": TrainedSource,
    "graft": GraftedSource,
    "hf": HfSource,
    "python": PythonSource,
    "activations": ActivationsSource,
}


def make_source(config: Config, name: str) -> Source:
    """The model of a config with that name, ``[models.NAME]`` or what a baseline makes of one."""
    return SOURCES[config.all_models[name].source](config, name)
