"""A model that the user's own code makes; the code is run because the config names it.

Knows nothing of what the model is compared for.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from engramcka.errors import ConfigError
from engramcka.models.loading import require_offsets


class OwnModel(nn.Module):
    """Somebody's own architecture, called with those of our arguments that it takes."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        parameters = inspect.signature(inner.forward).parameters.values()
        self._takes = {parameter.name for parameter in parameters}
        self._takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)

    def forward(self, input_ids: Any, **options: Any) -> Any:
        """Token ids (batch, tokens), and attention_mask and use_cache where it takes them."""
        taken = {name: value for name, value in options.items() if name in self._takes}
        return self.inner(input_ids, **(options if self._takes_any else taken))


def call_function(function: str, folder: str, device: str) -> tuple[nn.Module, Any]:
    """Call ``module:function`` without arguments; its model in eval mode on ``device``.

    Args:
        function: what to call; it returns (model, tokenizer).
        folder: where its module is imported from, before what is installed.
        device: where the model goes.

    Raises:
        ConfigError: no such module or function, or what it returns is not a model and a fast
            tokenizer; an error inside it, with its own message.
    """
    module_name, _, name = function.partition(":")
    with _importing_from(folder):
        try:
            made = getattr(importlib.import_module(module_name), name)
        except Exception as error:
            raise _failed(function, "cannot be imported", error) from error
        try:
            found = made()
        except Exception as error:
            raise _failed(function, "failed", error) from error
    if not isinstance(found, tuple) or len(found) != 2 or not isinstance(found[0], nn.Module):
        raise ConfigError(
            f"{function} returned {type(found).__name__}; allowed: (a torch module, its tokenizer)"
        )
    model, tokenizer = found
    require_offsets(function, tokenizer)
    if not isinstance(model, PreTrainedModel):
        model = OwnModel(model)
    return model.eval().to(device), tokenizer


@contextmanager
def _importing_from(folder: str) -> Iterator[None]:
    place = str(Path(folder).expanduser().absolute())
    sys.path.insert(0, place)
    try:
        yield
    finally:
        sys.path.remove(place)


def _failed(function: str, what: str, error: Exception) -> ConfigError:
    lines = str(error).strip().splitlines() or [""]
    return ConfigError(f"{function} {what} ({type(error).__name__}: {lines[0][:200]})")
