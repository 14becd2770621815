"""Each measure against a package that has it, where that is installed; CI has none of them.

`pip install scipy rsatoolbox repsim repralign` in another environment. What they call by the same
name and compute otherwise is not here: repralign's cknna is mutual k-NN by Euclidean distance, so
that of unit vectors it is ours; repsim's svcca is a mean of squared canonical
correlations.
"""

import numpy as np
import pytest
import reference_measures as reference
from hidden_states import layers

from engramcka import similarity_map


def pair(n=120, widths=(9, 12)):
    rng = np.random.default_rng(4)
    y, x = layers(rng, n, widths, dtype=np.float64)
    return y, x


def ours(y, x, measure, **options):
    return similarity_map([y], [x], measure=measure, **options).similarity[0, 0]


def test_rsa_is_rsatoolboxs():
    rsatoolbox = pytest.importorskip("rsatoolbox")
    y, x = pair()
    rdms = [
        rsatoolbox.rdm.calc_rdm(rsatoolbox.data.Dataset(a), method="correlation") for a in (y, x)
    ]
    expected = rsatoolbox.rdm.compare(*rdms, method="spearman")[0, 0]
    assert ours(y, x, "rsa") == pytest.approx(expected, abs=1e-6)


def test_procrustes_is_scipys():
    spatial = pytest.importorskip("scipy.spatial")
    y, x = pair(widths=(12, 12))
    *_, disparity = spatial.procrustes(y, x)
    assert ours(y, x, "procrustes") == pytest.approx(np.sqrt(1 - disparity), abs=1e-6)


def test_mutual_knn_is_repraligns():
    repralign = pytest.importorskip("repralign.metrics")
    torch = pytest.importorskip("torch")
    y, x = pair()
    units = [torch.from_numpy(a / np.linalg.norm(a, axis=1, keepdims=True)) for a in (y, x)]
    assert ours(y, x, "mutual-knn", k=7) == pytest.approx(repralign.cknna(*units, k=7), abs=1e-6)


def test_pwcca_is_repsims():
    """Repsim's is the mean of both sides' weights; ours so only where they are as wide."""
    repsim = pytest.importorskip("repsim")
    y, x = pair(widths=(12, 12))
    assert ours(y, x, "pwcca") == pytest.approx(np.asarray(repsim.pwcca([y, x]))[0, 1], abs=1e-6)


def test_svcca_has_repsims_canonical_correlations():
    repsim = pytest.importorskip("repsim")
    y, x = pair()
    parts = [reference.components(a, 0.99, 12)[0] for a in (y, x)]
    singular = reference.canonical(*parts)[0]
    assert ours(y, x, "svcca") == pytest.approx(singular.mean(), abs=1e-6)
    found = np.asarray(repsim.svcca([y, x], summary_type="yanai"))[0, 1]
    assert (singular**2).mean() == pytest.approx(found, abs=1e-6)
