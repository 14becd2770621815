"""A sweep in a sentence says how sure the gain of its best layer is, where that is known."""

from engramcka.results import LossSweep

LOSSES = {"layers": (1, 2), "loss": [[1.0, 1.1], [0.9, 0.92]], "baseline": [2.0, 2.1]}


def test_the_best_layer_is_told_with_its_interval() -> None:
    ends = {"difference_low": [-1.1, -1.3], "difference_high": [-0.9, -1.0]}
    text = LossSweep(**LOSSES, seeds=(0, 1), **ends).summary()
    assert "best at layer 2: 0.910 (s.d. 0.014), -1.140 (95 % -1.300 to -1.000)" in text
    assert "95 %" not in LossSweep(**LOSSES, seeds=(0, 1)).summary()
