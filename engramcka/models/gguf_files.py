"""GGUF files, as llama.cpp reads them: weights, config and tokenizer in one file.

Their blocks are dequantised while they are loaded. transformers is shown the file alone, so
that nothing that lies beside it is taken for a part of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import AutoConfig

from engramcka import foreign_files
from engramcka.errors import ConfigError, StoreError
from engramcka.models.checkpoint_files import GGUF, in_short

NAME = f"model{GGUF}"  # what the file is called where transformers sees it

_MAGIC = b"GGUF"
_PART = re.compile(r"-\d{5}-of-(\d{5})\.gguf$")


def is_gguf(path: str) -> bool:
    """Whether a path is one of a GGUF file, which need not be there."""
    return path.endswith(GGUF) and not Path(path).is_dir()


@contextmanager
def alone(path: str, quantization: str) -> Iterator[str]:
    """A folder that holds a GGUF file, called `NAME`, and nothing else.

    Args:
        path: the file.
        quantization: as in `engramcka.models.loading.load_checkpoint`.

    Raises:
        StoreError: no such file, or no GGUF.
        ConfigError: the package that reads it is not installed, it is one part of several, or it
            is to be quantised again.
    """
    if find_spec("gguf") is None:
        raise ConfigError(f"{path}: a GGUF file needs gguf; pip install 'engramcka[gguf]'")
    if quantization != "none":
        raise ConfigError(
            f"{path}: its weights are quantised already; leave quantization = {quantization!r} out"
        )
    parts = _PART.search(path)
    if parts and int(parts[1]) > 1:
        raise ConfigError(
            f"{path}: one of {int(parts[1])} parts; join them (llama-gguf-split --merge)"
        )
    file = Path(path).expanduser()
    try:
        with foreign_files.open_file(file) as opened:
            is_one = opened.read(len(_MAGIC)) == _MAGIC
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror or error}", exit_code=2) from error
    if not is_one:
        raise StoreError(f"{path}: no GGUF file, it does not begin with GGUF", exit_code=2)
    with TemporaryDirectory(prefix="engramcka-") as folder:
        (Path(folder) / NAME).symlink_to(file.absolute())
        yield folder


def read_config(path: str, folder: str) -> Any:
    """The config in a GGUF file.

    Args:
        path: the file, for messages.
        folder: of `alone`.

    Raises:
        ConfigError: transformers does not know this architecture, or the file is damaged.
    """
    try:
        return AutoConfig.from_pretrained(folder, gguf_file=NAME)
    except Exception as error:  # of whatever stands in somebody's file
        raise ConfigError(f"{path}: transformers cannot read it ({in_short(error)})") from error


def reading() -> tuple[dict[str, Any], str]:
    """Options of ``from_pretrained``, and a sentence for whoever reads the results."""
    from transformers import GgufConfig

    return (
        {"quantization_config": GgufConfig(dequantize=True)},
        "its GGUF weights were dequantised while they were loaded",
    )
