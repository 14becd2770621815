"""What the analyses find, as small NumPy dataclasses: what is stored, drawn and read.

Knows nothing of tensors, files, figures or screens. Layers are blocks, counted from 1.
"""

from engramcka.results.cka import CkaMap, LayerDiagnostics, soft_alignment
from engramcka.results.depth import DepthShift
from engramcka.results.gates import GateMap, GateText, MemoryAblation
from engramcka.results.lens import Direction, LensCurve
from engramcka.results.statistics import Float, jackknife_interval, student_quantile
from engramcka.results.sweep import AllocationSweep, LossSweep
from engramcka.results.training import TrainingCurve

__all__ = [
    "AllocationSweep",
    "CkaMap",
    "DepthShift",
    "Direction",
    "Float",
    "GateMap",
    "GateText",
    "LayerDiagnostics",
    "LensCurve",
    "LossSweep",
    "MemoryAblation",
    "TrainingCurve",
    "jackknife_interval",
    "soft_alignment",
    "student_quantile",
]
