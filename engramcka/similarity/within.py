"""What pairs of samples of one document would have changed, from some of them."""

from __future__ import annotations

import numpy as np
import torch

from engramcka.results import Float
from engramcka.similarity.documents import Ints, pairs_within, share_within
from engramcka.similarity.hsic import Hsic
from engramcka.similarity.inputs import Layers
from engramcka.similarity.uncertainty import ratio

_PAIRS = 512  # of one document that are looked at


def all_pairs(
    y: Layers, x: Layers, documents: Ints, whole: Hsic, seed: int, like: torch.Tensor
) -> Float:
    """The similarity that all pairs of samples would give, those of one document among them.

    HSIC of all pairs is the mean of K_ij L_ij over pairs of different documents and over those of
    one, weighted by how many there are; the latter is estimated from a draw of them, alike, on
    features less the mean of the samples drawn.

    Args:
        y: one model.
        x: the other.
        documents: (samples,) number of each sample's document.
        whole: HSIC of pairs of different documents, with the linear kernel.
        seed: of the draw.
        like: a tensor of the dtype and on the device to compute with.

    Returns:
        (y layers, x layers).
    """
    share, pairs = share_within(documents), pairs_within(documents, _PAIRS, seed)
    rows, place = np.unique(pairs, return_inverse=True)
    one, other = torch.from_numpy(place.reshape(pairs.shape)).unbind(1)
    products = []
    for side in (y, x):
        kernel = []
        for index in range(len(side)):
            values = side.values_at(index, rows, like)
            values = values - values.mean(0)
            left, right = values[one.to(values.device)], values[other.to(values.device)]
            kernel.append((left * right).sum(1, dtype=torch.float64))
        products.append(torch.stack(kernel))
    cross = (products[0] @ products[1].T / len(pairs)).cpu().numpy()
    own = torch.cat(products).square().mean(1).cpu().numpy()
    mixed = Hsic(
        (1 - share) * whole.cross + share * cross,
        (1 - share) * whole.own + share * own,
        (1 - share) * whole.terms + share * own,
    )
    return ratio(mixed.cross, mixed)
