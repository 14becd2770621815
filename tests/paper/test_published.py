import numpy as np
import pytest

from engramcka.paper import published_lens, published_maps, published_sweep


def test_the_maps_are_the_papers():
    maps = published_maps()
    assert list(maps) == ["Engram-27B", "Engram-40B"]
    for name, cka in maps.items():
        assert cka.similarity.shape == (30, 30)
        assert (cka.y_label, cka.x_label) == ("MoE-27B", name)
        assert 0.06 < cka.similarity.min() < cka.similarity.max() < 0.9
        brightest = cka.similarity.argmax(axis=0)
        assert ((brightest[20:] >= 24) & (brightest[20:] <= 28)).all()
    # the paper's text: layer 5 of Engram-27B aligns with about layer 12 of the MoE
    assert maps["Engram-27B"].soft_alignment(5, first_layer=0)[5] == pytest.approx(12.2, abs=0.05)


def test_the_sweep_is_the_papers():
    sweep = published_sweep()
    assert sweep.layers == tuple(range(1, 13))
    assert sweep.best == (2, 1.77046)
    assert sweep.layers[int(np.argmax(sweep.mean))] == 11
    assert sweep.baseline_mean == 1.808
    assert list(sweep.reference.values()) == [1.76782]
    assert len(sweep.variants) == 5
    assert all(loss > 1.76782 for loss in sweep.variants.values())


def test_the_divergence_is_lower_with_engram_in_early_layers():
    curves = published_lens()
    assert list(curves) == ["MoE-27B", "Engram-27B", "Engram-40B"]
    for name, curve in curves.items():
        assert curve.layers == tuple(range(1, 30))
        assert (curve.label, curve.direction, curve.kl_low) == (name, "unknown", None)
    assert (curves["Engram-27B"].kl[2:10] < curves["MoE-27B"].kl[2:10]).all()
    assert curves["MoE-27B"].kl[[0, 28]] == pytest.approx([10.019, 0.429])
