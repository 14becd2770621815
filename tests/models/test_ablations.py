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
    table_parameters,
    table_primes,
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


def first_primes(start: int, count: int) -> list[int]:
    """Primes from ``start`` on, by trial division."""
    found: list[int] = []
    while len(found) < count:
        if all(start % divisor for divisor in range(2, int(start**0.5) + 1)):
            found.append(start)
        start += 1
    return found


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_keeps_the_engram_budget(name: str) -> None:
    changed = ablated(ENGRAM, NUMBERS, name)
    assert changed.model_dump(exclude={"table_size"}) != ENGRAM.model_dump(exclude={"table_size"})
    found = engram_of(changed)
    assert found == engram_parameters(changed, NUMBERS)
    # Norms, convolution and primes of one module more; a width of one more a table.
    rounding = {"two-layers": 3e-2, "no-table": 1e-2}.get(name, 2e-3)
    assert found == pytest.approx(engram_of(ENGRAM), rel=rounding)


def test_a_memory_over_two_layers_keeps_its_rows_and_halves_its_width() -> None:
    """Figure 5 divides 1.6B over layers 2 and 6 by a smaller d_mem (paper, section 6.2)."""
    split = ablated(ENGRAM, NUMBERS, "two-layers", (2, 6))
    assert split == ENGRAM.model_copy(update={"layers": (2, 6), "d_mem": 48})
    assert table_primes(split)[2] == table_primes(ENGRAM)[2] == first_primes(2000, 8)
    assert table_primes(split)[6] == first_primes(2000, 16)[8:]
    assert table_parameters(split) == sum(first_primes(2000, 16)) * 48 // 8
    assert table_parameters(ENGRAM) == sum(first_primes(2000, 8)) * 96 // 8


def test_at_the_papers_size_both_ways_have_its_parameters() -> None:
    preset = find_preset("engram-3b")
    assert preset.engram is not None
    assert (preset.engram.layers, preset.engram.d_mem) == ((2, 6), 640)
    for layer in (1, 2, 12):
        one = with_layers(preset.engram, preset.numbers, (layer,))
        assert one == preset.engram.model_copy(update={"layers": (layer,), "d_mem": 1280})
        assert engram_parameters(one, preset.numbers) == pytest.approx(
            engram_parameters(preset.engram, preset.numbers), rel=2e-4
        )
    assert ablated(one, preset.numbers, "two-layers", (2, 6)) == preset.engram


def test_a_width_that_does_not_split_takes_the_nearest_and_solves_the_rows() -> None:
    odd = ENGRAM.model_copy(update={"d_mem": 88})  # 44 is no multiple of the 8 tables
    split = ablated(odd, NUMBERS, "two-layers")
    assert split.d_mem == 48
    assert split.table_size < 2000
    assert engram_of(split) == pytest.approx(engram_of(odd), rel=2e-3)
    narrow = ENGRAM.model_copy(update={"d_mem": 8})
    assert ablated(narrow, NUMBERS, "two-layers").d_mem == 8


def test_sizes_by_order_keep_their_ratio_where_rows_are_solved() -> None:
    by_order = ENGRAM.model_copy(update={"table_size": (1000, 3000)})
    primes = table_primes(by_order)[2]
    assert primes == first_primes(1000, 4) + first_primes(3000, 4)
    assert engram_of(by_order) == engram_parameters(by_order, NUMBERS)
    without = ablated(by_order, NUMBERS, "gating")
    assert isinstance(without.table_size, tuple)
    assert without.table_size[1] / without.table_size[0] == pytest.approx(3.0, rel=1e-2)
    assert engram_of(without) == pytest.approx(engram_of(by_order), rel=3e-3)
    longer = ablated(by_order, NUMBERS, "4-grams")
    assert len(longer.sizes) == 3
    assert longer.sizes[4] == longer.sizes[3]
    assert engram_of(longer) == pytest.approx(engram_of(by_order), rel=3e-3)
    assert ablated(by_order, NUMBERS, "two-layers").table_size == (1000, 3000)


def test_what_an_ablation_changes() -> None:
    assert ablated(ENGRAM, NUMBERS, "4-grams").orders == (2, 3, 4)
    assert ablated(ENGRAM, NUMBERS, "two-layers").layers == (2, 3)  # the middle one of 6
    assert ablated(ENGRAM, NUMBERS, "two-layers", (1, 5)).layers == (1, 5)
    assert ablated(ENGRAM, NUMBERS, "multi-branch").fusion == "pre-mapping"
    assert not ablated(ENGRAM, NUMBERS, "compression").compression
    assert ablated(ENGRAM, NUMBERS, "compression").table_size == ENGRAM.table_size
    assert ablated(ENGRAM, NUMBERS, "gating").gating == "none"
    assert not ablated(ENGRAM, NUMBERS, "convolution").convolution
    odd = ENGRAM.model_copy(update={"d_mem": 128})  # does not split over 12 tables
    assert ablated(odd, NUMBERS, "4-grams").d_mem == 132


def test_one_module_in_place_of_two_has_their_budget() -> None:
    two = ENGRAM.model_copy(update={"layers": (2, 6)})
    for layer in (1, 6):
        one = with_layers(two, NUMBERS, (layer,))
        assert one == two.model_copy(update={"layers": (layer,), "d_mem": 192})
        assert engram_of(one) == pytest.approx(engram_of(two), rel=3e-2)
    assert with_layers(ENGRAM, NUMBERS, (5,)) == ENGRAM.model_copy(update={"layers": (5,)})


@pytest.mark.parametrize(
    ("changes", "name", "message"),
    [
        ({"compression": False}, "compression", "like that already"),
        ({"orders": (2, 4)}, "4-grams", "like that already"),
        ({"layers": (3,)}, "two-layers", "both layers are 3"),
        ({"layers": (2, 3)}, "two-layers", "like that already"),
        ({"table_size": 2, "d_mem": 8}, "two-layers", "too few"),
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
