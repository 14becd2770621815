"""What a model's hidden states are made from, as JSON, and what is in the way made otherwise.

Equal inputs mean equal hidden states. Reads what is stored, and files' sizes and times; loads no
model.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engramcka.config import (
    CapturedModel,
    Config,
    DataTable,
    ImportedModel,
    LoadedModel,
    PythonModel,
    TrainedModel,
)
from engramcka.config.data_table import STDLIB
from engramcka.data.corpora import corpus_inputs
from engramcka.data.documents import DataKeyError
from engramcka.data.files import SUFFIXES, find_files
from engramcka.errors import StoreError
from engramcka.pipeline.identity import content_digest, files_state, module_digest
from engramcka.pipeline.members import Member, last_member
from engramcka.pipeline.pieces import refuse_other_inputs
from engramcka.pipeline.units import Unit
from engramcka.stores import layout
from engramcka.stores.open import stored_attributes

_MODEL_FILES = ("*.safetensors", "*.bin", "config.json", "tokenizer.*", "*.py")
# Keys of [models.NAME] that leave the hidden states as they are, but for rounding.
_WITHOUT_EFFECT = {"label", "parallel"}

# Keys of [data] that older stores do not name: left out where they say what was so before them.
_NEWER = {"per_document": None, "skip_first": 0}

FILES = "files"  # of the inputs of an import: the state that its files were in


def extract_inputs(
    config: Config, name: str, unit: Unit | None, member: Member | None = None
) -> dict[str, Any]:
    """What a model's hidden states are made from; of its last checkpoint if none is named."""
    member = member or last_member(config, name)
    table = member.table
    if isinstance(table, ImportedModel):
        return _import_inputs(config, member, table)
    if isinstance(table, TrainedModel):
        assert unit is not None
        kept = {"checkpoint": member.folder} if member.folder else {}
        made_from: Mapping[str, Any] = {**unit.inputs, **table.capture, **kept}
    else:
        made_from = {
            **table.model_dump(mode="json", exclude=_WITHOUT_EFFECT),
            **_content(config, member, table),
        }
    data = config.data.model_dump(mode="json", exclude={"vocabulary", "nonfinite"})
    data = {key: value for key, value in data.items() if (key, value) not in _NEWER.items()}
    content = content_digest(_texts(config.data))
    return {
        "model": dict(made_from),
        "data": {**data, **corpus_inputs(config.data), **({"content": content} if content else {})},
        "seed": config.run.seed,
    }


def _content(config: Config, member: Member, table: CapturedModel) -> dict[str, Any]:
    """What a model's local files hold, or its code; what was made with them if they are gone."""
    if isinstance(table, PythonModel):
        key, found = "code", module_digest(table.function, table.path)
    else:
        assert isinstance(table, LoadedModel)
        key, found = "content", content_digest(_weights(table.path))
    found = found or _stored_inputs(config, member).get("model", {}).get(key)
    return {key: found} if found else {}


def _weights(path: str) -> list[Path]:
    """The files of a local model that decide its hidden states; none where it is on the hub."""
    folder = Path(path).expanduser()
    return [file for pattern in _MODEL_FILES for file in folder.glob(pattern)]


def _texts(data: DataTable) -> list[Path]:
    """The local files of a corpus."""
    if data.source in SUFFIXES:
        try:
            return find_files(data)
        except DataKeyError:
            return []
    folder = Path(data.place).expanduser()
    if data.source == STDLIB or not folder.is_dir():
        return []
    return [
        file
        for file in folder.rglob("*")
        if file.is_file() and not file.name.startswith((".", "cache-"))  # of `datasets`
    ]


def _import_inputs(config: Config, member: Member, table: ImportedModel) -> dict[str, Any]:
    """What a copy of hidden states is made from; its files need not be there once it is made."""
    made_from = {"model": table.model_dump(mode="json", exclude={"label"})}
    try:
        state = files_state(table.path, table.samples)
    except StoreError as error:
        state = _stored_inputs(config, member).get(FILES)
        if state is None:
            raise config.error(("models", member.model, "path"), str(error)) from error
    return {**made_from, FILES: state or _stored_inputs(config, member).get(FILES)}


def _stored_inputs(config: Config, member: Member) -> Mapping[str, Any]:
    """What a member's store says it was made from; nothing where there is none."""
    path = Path(config.run.dir) / layout.ACTIVATIONS / f"{member.store}.zarr"
    try:
        return dict(stored_attributes(path)[layout.INPUTS])
    except (StoreError, KeyError, TypeError, ValueError):
        return {}


def refuse_other_states(path: Path, member: Member, inputs: Mapping[str, Any]) -> None:
    """Refuse to go on where a store of another config, or of files as they were, is in the way."""
    found = stored_attributes(path)[layout.INPUTS]
    refuse_other_inputs(str(path), {**found, FILES: None}, {**inputs, FILES: None})
    if found.get(FILES) != inputs.get(FILES):
        assert isinstance(member.table, ImportedModel)
        raise StoreError(
            f"{path}: {member.table.path} has changed since it was copied from there (then "
            f"{_told(found.get(FILES))}, now {_told(inputs.get(FILES))}); delete it to copy it "
            "anew, or choose another run.dir",
            exit_code=2,
        )


def _told(state: Mapping[str, Any] | None) -> str:
    """The state of some files in words: size and newest change, or the manifest."""
    return ", ".join(f"{key} {value}" for key, value in (state or {"unknown": ""}).items())
