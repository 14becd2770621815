"""What a config may say and hardly anyone means: a sentence each. Knows no torch."""

from __future__ import annotations

from collections.abc import Iterator

from engramcka.config import Config, TrainedModel
from engramcka.models.presets import find_preset


def advice(config: Config) -> Iterator[str]:
    """What `engramcka check` remarks about a valid config."""
    presets = {m.preset for m in config.models.values() if isinstance(m, TrainedModel)}
    if not any(_has_experts(preset) for preset in presets):
        return
    options = config.training
    if options.balancing == "none":
        yield (
            "training.balancing = 'none': nothing evens out the experts' loads, and small routers "
            "soon send all tokens to the same few experts"
        )
    reach = options.balancing_rate * options.steps
    if options.balancing == "loss-free" and reach < 1.0:
        yield (
            f"training.balancing_rate = {options.balancing_rate:g}: in {options.steps} steps the "
            f"bias moves by at most {reach:g}, and experts' scores differ by up to 1, so their "
            f"loads may stay uneven; {1 / options.steps:.1g} or more reaches that far"
        )


def _has_experts(preset: str) -> bool:
    numbers = find_preset(preset).numbers
    return bool(numbers["first_k_dense_replace"] < numbers["num_hidden_layers"])
