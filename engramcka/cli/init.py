"""``engramcka init``: a commented config to start from."""

from __future__ import annotations

from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from engramcka.errors import ConfigError


class Template(StrEnum):
    """The configs that come with engramcka."""

    quickstart = "quickstart"
    hf = "hf"


def command(
    path: Annotated[
        Path, typer.Argument(help="The file to write; it must not be there.", show_default=False)
    ],
    template: Annotated[Template, typer.Option(help="What to start from.")] = Template.quickstart,
) -> None:
    """Write a commented config to PATH."""
    text = (resources.files("engramcka.sample_configs") / f"{template.value}.toml").read_text()
    if path.is_dir():
        path = path / f"{template.value}.toml"
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise ConfigError(f"{path}: is there already; name another file") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror})") from error
    print(f"Wrote {path}. Run it with: engramcka run {path}")
