"""How often the exact estimators read the samples of both models, by arithmetic alone.

On a GPU samples are sent once where half of its free memory holds them as they are stored, and all
that is read again is read there. Where it does not, and on a CPU, a panel of samples at a time is
held, against which come all panels after it.
"""

from __future__ import annotations

import torch

from engramcka.ram import total_bytes

PANEL_BYTES = 256 * 2**20  # of centred features held at once by a CPU; up to three panels are
PANEL_SHARE = 0.1  # of a GPU's memory, for each of them
LAYER_BYTES = 256 * 2**20  # a layer up to this size is held by a CPU while its pairs are made
LAYERS_SHARE = 0.25  # of a GPU's memory, for as many layers as it holds
PRODUCT_BYTES = 192 * 2**20  # of X_g' Y_g held for all groups; wide layers are cut into columns
PRODUCT_SHARE = 0.05  # of a GPU's memory, for them
PASSES = 5  # over all samples: means, column sums, row sums, and two for the samples far out
RESIDENT_SHARE = 0.5  # of a GPU's free memory, which all layers as they are stored may take


def fits(n: int, stored_bytes: int, free: float) -> bool:
    """Whether all layers may stay on a GPU.

    Args:
        n: samples.
        stored_bytes: of one sample of all layers.
        free: bytes of the GPU.
    """
    return n * stored_bytes <= RESIDENT_SHARE * free


def panel_bytes(device: torch.device) -> float:
    """Centred features that a device holds in one panel.

    A share of all its memory, not of what is free: sums do not depend on what else runs there.
    """
    return PANEL_BYTES if device.type == "cpu" else PANEL_SHARE * total_bytes(device)


def panel_blocks(panel: float, block: int, held_bytes: int) -> int:
    """Blocks of samples in a panel of so many bytes.

    Args:
        panel: bytes.
        block: samples in a block.
        held_bytes: of one centred sample of all layers, with the parts that it is split in.
    """
    return max(1, int(panel // (block * held_bytes)))


def gram_readings(n: int, panel_samples: int) -> float:
    """How often all samples are read, in sum, where they do not stay: P panels P (P + 1) / 2 times.

    Args:
        n: samples.
        panel_samples: in a panel.
    """
    parts = [min(panel_samples, n - start) for start in range(0, n, panel_samples)]
    # A panel is read against itself and once more for each one before it.
    read = sum(part * number for number, part in enumerate(parts, start=1))
    return PASSES + read / n


def layer_bytes(device: torch.device) -> float:
    """Centred features of whole layers that a device holds while their pairs are made."""
    return LAYER_BYTES if device.type == "cpu" else LAYERS_SHARE * total_bytes(device)


def product_bytes(device: torch.device) -> float:
    """Products X_g' Y_g of all groups that a device holds at once."""
    return PRODUCT_BYTES if device.type == "cpu" else PRODUCT_SHARE * total_bytes(device)


def held_layers(most: float, layer: int) -> int:
    """Layers of y that are held together; where they are several, their partner in x is so too.

    Args:
        most: bytes for all of them.
        layer: bytes of the largest.
    """
    return max(1, int(most // layer) - 1)


def feature_readings(y_layers: int, x_layers: int, held: int) -> float:
    """How often all samples are read, in sum, by the feature route, where they do not stay.

    Of equally wide layers: y's once, x's once for all layers of y that are held together and once
    by themselves, and all of them once more for their diagonals.

    Args:
        y_layers: how many.
        x_layers: how many.
        held: layers of y that are held together.
    """
    times = -(-y_layers // held)
    read = y_layers + x_layers * (times + 1)
    return PASSES + 1 + read / (y_layers + x_layers)
