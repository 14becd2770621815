from .measures import MEASURES as MEASURES
from .results import CkaMap as CkaMap
from .results import LossSweep as LossSweep
from .results import SimilarityMap as SimilarityMap
from .similarity import cka_map as cka_map
from .similarity import similarity_map as similarity_map
from .stores import Run as Run
from .stores import open_run as open_run

__version__: str
