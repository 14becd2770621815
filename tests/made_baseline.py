"""A map beside baselines whose means and differences are known by construction."""

import numpy as np

from engramcka.results import Baseline, CkaMap

GROUPS, ROWS, COLUMNS = 12, 4, 3


def noisy_map(truth, noise=0.01, seed=0, groups=GROUPS, **fields):
    """A CKA map with replicates of groups that differ by noise of known size."""
    parts = truth + noise * np.random.default_rng(seed).standard_normal((groups, *truth.shape))
    similarity = parts.mean(axis=0)
    jackknife = (parts.sum(axis=0) - parts) / (groups - 1)
    fields = {
        "y_label": "MoE", "x_label": "Engram", "estimator": "minibatch", "n_samples": 512,
        "n_documents": 40, "interval_over": "documents", "samples": "1234",
        "y_layers": tuple(range(ROWS)), "x_layers": tuple(range(COLUMNS)), **fields,
    }  # fmt: skip
    return CkaMap(similarity, jackknife=jackknife, **fields)


def truth(level, slope=0.05):
    """(y layers, x layers) that fall off from the diagonal."""
    rows, columns = np.arange(ROWS)[:, None], np.arange(COLUMNS)[None, :]
    return level - slope * abs(rows - columns)


def made_baseline(**fields):
    """A map at 0.8 with an untrained one at 0.5, another seed at 0.9, and its tokens."""
    own = noisy_map(truth(0.8), warnings=("one dimension",))
    others = {
        "untrained": noisy_map(truth(0.5), seed=1),
        "MoE, seed 1 on MoE": noisy_map(truth(0.9), seed=2, warnings=("few samples",)),
    }
    names = ["cka/a", "cka/a.by-untrained", "cka/a.by-moe-1"]
    return Baseline.of(own, {**others, **fields.pop("others", {})}, names, **fields)
