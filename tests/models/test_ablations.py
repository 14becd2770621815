"""Every point of a sweep has the parameters it claims, counted on the models themselves."""

from __future__ import annotations

import pytest

from engramcka.config import EngramConfig
from engramcka.errors import ConfigError
from engramcka.models.allocation import (
    ABLATIONS,
    ablated,
    allocate,
    allocation_ratio,
    engram_parameters,
    with_layers,
)
from engramcka.models.build import count_parameters, meta_model
from engramcka.models.presets import find_preset

VOCABULARY = 512
PRESET = "moe-tiny-hyper"
NUMBERS = find_preset(PRESET).numbers
ENGRAM = EngramConfig(layers=(2,), d_mem=96, heads=4, table_size=2000)


def engram_of(engram: EngramConfig) -> int:
    return count_parameters(meta_model(PRESET, VOCABULARY, engram)).engram


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_keeps_the_engram_budget(name: str) -> None:
    changed = ablated(ENGRAM, NUMBERS, name)
    assert changed.model_dump(exclude={"table_size"}) != ENGRAM.model_dump(exclude={"table_size"})
    found = engram_of(changed)
    assert found == engram_parameters(changed, NUMBERS)
    assert found == pytest.approx(engram_of(ENGRAM), rel=2e-3)


def test_what_an_ablation_changes() -> None:
    assert ablated(ENGRAM, NUMBERS, "4-grams").orders == (2, 3, 4)
    assert ablated(ENGRAM, NUMBERS, "two-layers").layers == (2, 3)  # the middle one of 6
    assert ablated(ENGRAM, NUMBERS, "two-layers", (1, 5)).layers == (1, 5)
    assert ablated(ENGRAM, NUMBERS, "two-layers").table_size < 1000
    assert not ablated(ENGRAM, NUMBERS, "multi-branch").multi_branch
    assert not ablated(ENGRAM, NUMBERS, "compression").compression
    assert ablated(ENGRAM, NUMBERS, "compression").table_size == ENGRAM.table_size
    assert ablated(ENGRAM, NUMBERS, "gating").gating == "none"
    assert not ablated(ENGRAM, NUMBERS, "convolution").convolution
    odd = ENGRAM.model_copy(update={"d_mem": 128})  # does not split over 12 tables
    assert ablated(odd, NUMBERS, "4-grams").d_mem == 132


def test_one_module_in_place_of_two_has_their_budget() -> None:
    two = ENGRAM.model_copy(update={"layers": (2, 6)})
    for layer in (1, 6):
        assert engram_of(with_layers(two, NUMBERS, (layer,))) == pytest.approx(
            engram_of(two), rel=2e-3
        )
    assert with_layers(ENGRAM, NUMBERS, (5,)) == ENGRAM.model_copy(update={"layers": (5,)})


@pytest.mark.parametrize(
    ("changes", "name", "message"),
    [
        ({"compression": False}, "compression", "like that already"),
        ({"orders": (2, 4)}, "4-grams", "like that already"),
        ({"layers": (3,)}, "two-layers", "both layers are 3"),
        ({"table_size": 2}, "two-layers", "too few"),
    ],
)
def test_what_cannot_be_taken_away_is_refused(
    changes: dict[str, object], name: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        ablated(ENGRAM.model_copy(update=changes), NUMBERS, name)


def test_one_stream_has_no_branches() -> None:
    with pytest.raises(ConfigError, match="one residual stream"):
        ablated(ENGRAM, find_preset("moe-tiny").numbers, "multi-branch")


@pytest.mark.parametrize("rho", [0.9, 0.75, 0.4, 0.1])
def test_every_rho_has_as_many_parameters(rho: float) -> None:
    preset = "moe-100m"
    numbers = find_preset(preset).numbers
    division = allocate(numbers, EngramConfig(layers=(2, 6), d_mem=256, heads=8), rho)
    whole = count_parameters(meta_model(preset, VOCABULARY)).total
    count = count_parameters(
        meta_model(preset, VOCABULARY, division.engram, experts=division.experts)
    )
    assert count.total == pytest.approx(whole, rel=1e-3)
    assert count.rho == pytest.approx(allocation_ratio(numbers, division), abs=1e-9)
    assert allocation_ratio(numbers, division) == pytest.approx(rho, abs=0.05)
