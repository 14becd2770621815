"""``source = "activations"``: hidden states that were extracted elsewhere. No model runs here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from engramcka.config import ImportedModel
from engramcka.errors import DataError, StoreError
from engramcka.pipeline.identity import files_state
from engramcka.pipeline.sources.base import Checkpoint, OpenModel, Shape, Source
from engramcka.pipeline.stages.importing import (
    NUMBERING,
    check_import,
    import_states,
    numbering_of,
    sample_table,
    tells_samples,
)
from engramcka.pipeline.tasks import refuse_other_inputs
from engramcka.stores import layout, open_activations
from engramcka.stores.open import stored_attributes

FILES = "files"  # key of the inputs: the state that the imported files were in


class ActivationsSource(Source):
    """Hidden states in files, copied into a store of the run."""

    table: ImportedModel
    runs_here = False
    import_states = staticmethod(import_states)

    @property
    def may_have_engram(self) -> bool:
        """It has no modules at all."""
        return False

    def identifies_samples(self) -> bool | None:
        """See `Source`."""
        return tells_samples(self.config, self.name, self.table)

    def samples(self, checkpoint: Checkpoint) -> int:
        """The rows of the files, which need not be there any more once they are copied."""
        if is_complete(checkpoint):
            return open_activations(checkpoint.path).n_samples
        try:
            return check_import(self.table)[0]
        except (DataError, StoreError) as error:
            raise self.config.error(("models", self.name, "path"), str(error)) from error

    def sample_table(self) -> Mapping[str, Any]:
        """The table that is copied with the files."""
        return sample_table(self.table)

    def remarks(self) -> Iterator[str]:
        """Which layers its arrays are taken for, where their names do not say that."""
        try:
            if is_complete(self.last):
                found = stored_attributes(self.last.path).get(NUMBERING)
            else:
                found = numbering_of(self.table)
        except (DataError, StoreError):  # whoever imports them says why
            return
        if found:
            yield f"models.{self.name}: {found}"

    def inputs(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """The table and the state of the files; as stored where the files are gone."""
        try:
            state = files_state(self.table.path, self.table.samples)
        except StoreError as error:
            state = checkpoint.stored_inputs.get(FILES)
            if state is None:
                path = ("models", self.name, "path")
                raise self.config.error(path, str(error)) from error
        return {
            "model": self.table.model_dump(mode="json", exclude={"label"}),
            FILES: state or checkpoint.stored_inputs.get(FILES),
        }

    def refuse_other_states(self, checkpoint: Checkpoint) -> None:
        """Refuse a store of another config, or of files that have changed since."""
        found, inputs = stored_attributes(checkpoint.path)[layout.INPUTS], checkpoint.inputs
        refuse_other_inputs(str(checkpoint.path), {**found, FILES: None}, {**inputs, FILES: None})
        if found.get(FILES) != inputs.get(FILES):
            raise StoreError(
                f"{checkpoint.path}: {self.table.path} has changed since it was copied from there "
                f"(then {_in_words(found.get(FILES))}, now {_in_words(inputs.get(FILES))}); delete "
                "it to copy it again, or choose another run.dir",
                exit_code=2,
            )

    def shape(self, checkpoint: Checkpoint) -> Shape:
        """Layers and width of the files; zeros where they are gone, once they are copied."""
        try:
            _, layers, width = check_import(self.table)
        except (DataError, StoreError):
            layers = width = 0
        return Shape(layers, width, itemsize=4)

    def open(self, checkpoint: Checkpoint, device: str) -> OpenModel:
        """There is nothing to open; raises StoreError."""
        raise StoreError(f"model {self.name}: source = 'activations' has no weights to load")


def is_complete(checkpoint: Checkpoint) -> bool:
    """Whether a store is finished and, as far as sizes and times tell, as it was written."""
    if not checkpoint.path.exists():
        return False
    try:
        store = open_activations(checkpoint.path)
        return store.is_complete and not store.missing() and not store.damaged()
    except StoreError:
        return False  # the task repairs what can be repaired, and else says what is wrong


def _in_words(state: Mapping[str, Any] | None) -> str:
    """The state of some files in words: size and newest change, or the manifest."""
    return ", ".join(f"{key} {value}" for key, value in (state or {"unknown": ""}).items())
