"""A model of the config is one checkpoint or a series, told by its table and the folders there."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from engramcka.config import Config
from engramcka.config.model_tables import MODEL_TABLES
from engramcka.pipeline.sources import SOURCES, Checkpoint
from engramcka.pipeline.spec import RunSpec


def config(**changes: object) -> Config:
    tables = {
        "run": {"dir": "r"},
        "models": {
            "hub": {"source": "hf", "path": "org/name", "revision": ("step1000", "step20")},
            "one": {"source": "hf", "path": "org/other"},
            "made": {"source": "train"},
        },
        "training": {"steps": 100, "checkpoints": (20, 50)},
        "cka": ({"name": "m", "y": "one", "x": "hub"}, {"name": "n", "y": "made", "x": "hub"}),
    }
    return Config.model_validate({**tables, **changes})


def checkpoints(name: str) -> tuple[Checkpoint, ...]:
    return RunSpec(config()).models[name].checkpoints


def test_revisions_are_a_series_by_their_numbers() -> None:
    found = checkpoints("hub")
    assert [(m.step, m.table.revision, m.store) for m in found] == [
        (20, "step20", "hub.step-000020"),
        (1000, "step1000", "hub.step-001000"),
    ]
    assert [m.is_last for m in found] == [False, True]
    assert [m.store for m in checkpoints("one")] == ["one"]


def test_a_training_ends_with_the_model_itself() -> None:
    found = checkpoints("made")
    assert [(m.step, m.folder, m.store) for m in found] == [
        (20, "step-000020", "made.step-000020"),
        (50, "step-000050", "made.step-000050"),
        (100, "", "made"),
    ]


def test_maps_are_named_by_step_and_the_last_by_itself() -> None:
    spec = RunSpec(config())
    one, two = spec.config.cka
    assert [(p.name, p.y.store, p.x.store, p.step) for p in spec.pairs(one)] == [
        ("m.step-000020", "one", "hub.step-000020", 20),
        ("m", "one", "hub.step-001000", 1000),
    ]
    assert [(p.name, p.step) for p in spec.pairs(two)] == [("n", 20)]


def test_every_source_of_the_config_has_its_class() -> None:
    assert list(SOURCES) == list(MODEL_TABLES)


def test_a_glob_and_revisions_are_refused_together() -> None:
    table = {"source": "hf", "path": "a/step-*", "revision": ("1", "2")}
    with pytest.raises(ValidationError, match="are two series; give one"):
        config(models={"m": table}, cka=())
