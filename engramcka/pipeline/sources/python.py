"""``source = "python"``: a model that the user's own function makes.

The function runs when the model is opened, and never before: a plan only reads the module's file.
"""

from __future__ import annotations

from typing import Any

from engramcka.config import Config, PythonModel
from engramcka.pipeline.identity import module_digest
from engramcka.pipeline.sources.base import Checkpoint, OpenModel, Shape, Source


class PythonSource(Source):
    """A model of one's own code; nothing of it is known until the function is called."""

    table: PythonModel

    def __init__(self, config: Config, name: str) -> None:
        super().__init__(config, name)
        self.blocks = self.table.blocks

    def made_from(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """The table and a digest of the module; as stored where the module is gone."""
        code = module_digest(self.table.function, self.table.path)
        code = code or checkpoint.stored_inputs.get("model", {}).get("code")
        return {**super().made_from(checkpoint), **({"code": code} if code else {})}

    def shape(self, checkpoint: Checkpoint) -> Shape:
        """Zeros: only its code knows."""
        return Shape()

    def open(self, checkpoint: Checkpoint, device: str) -> OpenModel:
        """Call the function; see `engramcka.models.loading`."""
        from engramcka.models.loading import call_function

        model, tokenizer = call_function(self.table.function, self.table.path, device)
        load_args = {"function": self.table.function, "path": self.table.path}
        return OpenModel(
            model, tokenizer, load_args, described=self.table.engram, blocks=self.blocks
        )
