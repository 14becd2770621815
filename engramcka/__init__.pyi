from .results import CkaMap as CkaMap
from .results import LossSweep as LossSweep
from .similarity import cka_map as cka_map
from .stores import Run as Run
from .stores import open_run as open_run

__version__: str
