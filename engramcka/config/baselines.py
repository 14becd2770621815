"""``baselines`` of a map: what its models would show without training, or without the context.

A baseline is a map of the same kind between other models, which the config does not name: they are
made from the tables of its models, each with one key changed, or are models of the config.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from engramcka.plain_text import did_you_mean

if TYPE_CHECKING:
    from engramcka.config.schema import Config

UNTRAINED, SHUFFLED, TOKENS = "untrained", "shuffled-text", "tokens"
KNOWN = (UNTRAINED, SHUFFLED, TOKENS)

_CHANGES: dict[str, dict[str, str]] = {
    UNTRAINED: {"weights": "random"},
    SHUFFLED: {"text": "shuffled"},
}
_WORDS = {UNTRAINED: "untrained", SHUFFLED: "shuffled text", TOKENS: "tokens alone"}

MEANINGS = {
    _WORDS[UNTRAINED]: "both models with random weights, as their training begins",
    _WORDS[SHUFFLED]: "both models read each passage with its words in a random order, the sampled "
    "ones in their places",
    _WORDS[TOKENS]: "layer 0 of both models, what their embeddings give of the tokens",
}
"""What a baseline of that title is, in a caption; those named after models say it themselves."""


def title_of(baseline: str, y: str, x: str) -> str:
    """What a baseline is called in figures.

    Args:
        baseline: a value of ``baselines``.
        y: label of the model on its rows.
        x: label of the one on its columns.
    """
    return _WORDS.get(baseline, f"{x} on {y}")


def changed(models: Mapping[str, Any], name: str, baseline: str) -> tuple[str, Any] | None:
    """Name and table of what stands for a model in a baseline; None where it stands for itself.

    Args:
        models: of the config.
        name: of the model.
        baseline: a value of ``baselines``.
    """
    changes = _CHANGES.get(baseline)
    if changes is None:
        return None
    label = f"{models[name].label or name}, {_WORDS[baseline]}"[:200]
    return f"{name}.{baseline}", models[name].model_copy(update={**changes, "label": label})


def problem_of(
    models: Mapping[str, Any], baseline: str, y: str, x: str, positions: str
) -> tuple[str, str] | None:
    """Why a map of two models cannot have a baseline, and what is allowed; None if it can.

    Args:
        models: of the config; all but the baseline are among them.
        baseline: a value of ``baselines``.
        y: model on the rows.
        x: model on the columns.
        positions: a value of ``data.positions``.
    """
    if baseline == SHUFFLED and positions == "all":
        return (
            "found 'shuffled-text' with data.positions = 'all': every token is a sample, and in "
            "another order there would be other tokens",
            "allowed: other positions",
        )
    for name in (y, x):
        table = models[name]
        if baseline == UNTRAINED and table.source not in ("train", "hf"):
            return (
                f"found 'untrained', and {name!r} has source = {table.source!r}",
                "allowed: models with source 'train' or 'hf', whose weights can be drawn",
            )
        if baseline == UNTRAINED and table.source == "hf" and (why := undrawable(table)):
            return f"found 'untrained', and {name!r} has {why}", "leave that out to draw weights"
        if baseline == SHUFFLED and not hasattr(table, "text"):
            return (
                f"found 'shuffled-text', and {name!r} reads no text here",
                "allowed: models that run here",
            )
        if baseline == TOKENS and not (getattr(table, "embedding", False)):
            return (
                f"found 'tokens', and layer 0 of {name!r} is not stored",
                f"set models.{name}.embedding = true",
            )
    if baseline not in KNOWN and baseline in (y, x):
        return (
            f"found {baseline!r}, which the map is of",
            f"allowed: {', '.join(KNOWN)}, or another model to compare {y!r} with",
        )
    return None


def undrawable(table: Any) -> str:
    """What of a table with source "hf" its weights cannot be drawn under; "" for nothing."""
    for key, usual in (
        ("adapter", None),
        ("quantization", "none"),
        ("tables", "memory"),
        ("parallel", "none"),
    ):
        if getattr(table, key) != usual:
            return f"{key} = {getattr(table, key)!r}"
    return ""


def check(config: Config) -> None:
    """Every baseline is known, is there once, and can be had of the models of its map.

    Raises:
        ConfigError: names the key and what is allowed.
    """
    for key in ("cka", "map"):
        for index, table in enumerate(getattr(config, key)):
            for place, baseline in enumerate(table.baselines):
                path = (key, index, "baselines")
                if baseline not in KNOWN and baseline not in config.models:
                    hint = did_you_mean(baseline, [*KNOWN, *config.models], cutoff=0.5)
                    allowed = f"{hint}allowed: {', '.join(KNOWN)}, or the name of a model"
                    raise config.error(path, f"no baseline {baseline!r}", allowed)
                if baseline in KNOWN and baseline in config.models:
                    raise config.error(
                        path, f"{baseline!r} is a baseline, and there is a model of that name",
                        "give the model another name",
                    )  # fmt: skip
                if baseline in table.baselines[:place]:
                    raise config.error(path, f"{baseline!r} is there twice")
                for one in table.maps:
                    if not {one.y, one.x} <= set(config.models):
                        continue  # whoever checks maps says it
                    problem = problem_of(
                        config.models, baseline, one.y, one.x, config.data.positions
                    )
                    if problem is not None:
                        raise config.error(path, *problem)
                    for name in (one.y, one.x):
                        made = changed(config.models, name, baseline)
                        if made is not None and made[0] in config.models:
                            raise config.error(
                                ("models", made[0]),
                                f"{made[0]!r} is what {baseline!r} makes of {name!r}",
                                "give it another name",
                            )
