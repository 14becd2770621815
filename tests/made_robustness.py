"""Ways of comparing two models whose nearest layers are known by construction."""

import numpy as np

from engramcka.results import CkaMap, Robustness, SimilarityMap

LAYERS = 9


def ridge_map(shift=0.0, kind=CkaMap, layers=LAYERS, spread=1e-3, groups=12, **fields):
    """A map whose columns peak ``shift`` rows below their own, seen through groups."""
    rows = np.arange(1, layers + 1)
    truth = 0.9 * np.exp(-(((rows[:, None] - rows[None, :] - shift) / 1.5) ** 2))
    noise = spread * np.random.default_rng(0).standard_normal((groups, layers, layers))
    parts = truth + noise - noise.mean(axis=0)
    jackknife = (parts.sum(axis=0) - parts) / (groups - 1)
    fields = {"y_label": "MoE", "x_label": "Engram", "n_samples": 512, **fields}
    return kind(truth, jackknife=jackknife, interval_over="documents", **fields)


def made_robustness(layer=3, **fields):
    """Five ways: three with a shift of one layer, one with two, and one that finds nothing."""
    flat = SimilarityMap(
        np.full((LAYERS, LAYERS), 0.5), y_label="MoE", x_label="Engram", measure="procrustes",
        warnings=("few samples",),
    )  # fmt: skip
    maps = {
        "CKA": ridge_map(1.0, estimator="minibatch"),
        "CKA, debiased": ridge_map(1.0, estimator="debiased", warnings=("one dimension",)),
        "CKA, z-scored": ridge_map(2.0, estimator="minibatch", standardize="zscore"),
        "RSA": ridge_map(1.0, SimilarityMap, measure="rsa", n_samples=480),
        "Procrustes": flat,
    }
    maps = {**maps, **fields.pop("maps", {})}
    names = [f"{'cka' if isinstance(one, CkaMap) else 'map'}/{name}" for name, one in
             zip("abcdefgh", maps.values(), strict=False)]  # fmt: skip
    return Robustness.of(maps, names, ["keep"] * len(maps), layer, **fields)
