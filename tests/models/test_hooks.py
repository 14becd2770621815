"""Hooks read what passes a point and end the pass that they are asked to end, and no other."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from engramcka.models.hooks import CapturePoint, PassHooks


class Chain(nn.Module):
    """Three steps, each of which adds one; counts those that ran."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.ModuleList(nn.Identity() for _ in range(3))
        self.ran = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.ran = 0
        for step in self.steps:
            x = step(x + 1)
            self.ran += 1
        return x


def same(key: object, value: torch.Tensor) -> torch.Tensor:
    return value


def test_what_leaves_and_what_enters_is_read_and_the_output_stays() -> None:
    model = Chain()
    points = {"in": CapturePoint(model.steps[2], "input"), "out": model.steps[0]}
    with PassHooks(points, same) as hooks:
        assert model(torch.zeros(1)).item() == 3
        assert hooks.complete
    assert {key: value.item() for key, value in hooks.found.items()} == {"out": 1, "in": 3}
    hooks.found.clear()
    model(torch.zeros(1))
    assert not hooks.found, "the hooks are gone"


def test_the_pass_ends_once_all_points_are_passed() -> None:
    model = Chain()
    with PassHooks(dict(enumerate(model.steps[:2])), same, end=True) as hooks:
        model(torch.zeros(1))
        raise AssertionError("the block is left with the pass")
    assert list(hooks.found) == [0, 1]
    assert model.ran == 1, "the second step ended the pass before it was counted"


def test_hooks_within_others_do_not_catch_the_end_of_theirs() -> None:
    model = Chain()
    with PassHooks({0: model.steps[0]}, same, end=True) as outer:
        with PassHooks({1: model.steps[1]}, same, end=True) as inner:
            model(torch.zeros(1))
        raise AssertionError("the outer block is left with the pass")
    assert outer.complete
    assert not inner.complete


def test_an_error_of_the_model_is_passed_on_and_the_hooks_are_removed() -> None:
    model = Chain()
    with pytest.raises(TypeError), PassHooks({0: model.steps[0]}, same):
        model("text")
    assert not any(step._forward_hooks for step in model.steps)
