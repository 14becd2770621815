"""The README is true: its commands exist, and every command and picture is there."""

import re
from pathlib import Path
from typing import get_args

import pytest
from typer.main import get_command

from engramcka import config
from engramcka.cli.app import app
from engramcka.config.reference import config_reference, config_tables

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = get_command(app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_and_is_in_the_readme(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    assert all(getattr(p, "help", None) for p in command.params), name
    assert re.search(rf"engramcka {name}\b", README), name


def test_the_readme_names_no_command_that_is_not_there() -> None:
    code = "\n".join(re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL))
    named = set(re.findall(r"\bengramcka ([a-z]+)\b", code))
    assert named
    assert named <= set(COMMANDS)


def test_choices_on_the_command_line_are_those_there_are() -> None:
    """They are written out where they load without the packages that decide."""
    from engramcka import palettes
    from engramcka.figures import STYLES
    from engramcka.figures.options import Palette, Venue

    assert list(get_args(Venue)) == list(STYLES)
    assert get_args(Palette) == palettes.PALETTES


def test_every_config_field_has_a_sentence() -> None:
    assert len(config_tables()) > 12
    for table in config_tables():
        for name, field in table.model_fields.items():
            assert field.description, f"{table.__name__}.{name}"


def test_pictures_and_pages_that_are_linked_are_there() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_config_page_is_the_schemas() -> None:
    assert (ROOT / "docs" / "config.md").read_text() == config_reference()


def test_the_page_of_sources_names_every_choice() -> None:
    page = (ROOT / "docs" / "sources.md").read_text()
    for table, key in ((config.DataTable, "source"), (config.DataTable, "positions")):
        for choice in get_args(table.model_fields[key].annotation):
            assert f"`{choice}`" in page, choice
    for model in (
        config.TrainedModel,
        config.LoadedModel,
        config.PythonModel,
        config.ImportedModel,
    ):
        (choice,) = get_args(model.model_fields["source"].annotation)
        assert f"| `{choice}` |" in page, choice
