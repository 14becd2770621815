"""Every error a user can meet, with the exit code it ends the command with.

Only the command line turns these into text and an exit code; nothing else prints or exits.
Messages are one line: where, what was found, what is allowed, what to do.
"""

from __future__ import annotations

import errno
import os

from engramcka.plain_text import without_controls

# A name that was given cannot be one, or is another kind of thing.
_NAMES = (
    *(errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR),
    *(errno.EISDIR, errno.EEXIST, errno.ELOOP),
)


def in_words(error: OSError) -> str:
    """What the system said and about which file, as a person would put it."""
    if error.strerror is None:
        return str(error) or type(error).__name__
    name = error.filename
    if isinstance(name, bytes):
        name = os.fsdecode(name)
    return f"{name}: {error.strerror}" if isinstance(name, str) and name else error.strerror


def code_of(error: OSError) -> int:
    """Exit code where a file cannot be written: 2 if the name that was given cannot be one."""
    return 2 if error.errno in _NAMES else 1


class EngramckaError(Exception):
    """Base of all errors that are somebody's to mend; ``exit_code`` is the process's."""

    exit_code = 1

    def __init__(self, message: str, *, exit_code: int | None = None) -> None:
        super().__init__(without_controls(message))
        if exit_code is not None:
            self.exit_code = exit_code


class ConfigError(EngramckaError, ValueError):
    """The config or the command line asks for something that cannot be."""

    exit_code = 2


class DataError(EngramckaError, ValueError):
    """The text, its entities or its tokenizer do not give what the config asks for."""

    exit_code = 2


class StoreError(EngramckaError):
    """A run or a store is missing, broken, half-written, newer than us, or another config's."""


class ComparisonError(EngramckaError, ValueError):
    """Two sets of hidden states that must not be compared: sizes, samples or values forbid it."""


class OptionError(ComparisonError):
    """An option asks for what these hidden states have not: neighbours, components, documents.

    Only the states show it, so it is found while a run is under way; what is wrong is the config.
    """

    exit_code = 2

    def __init__(self, message: str, option: str) -> None:
        super().__init__(message)
        self.option = option  # name of the option that is to be changed, as in a config


class TrainingError(EngramckaError):
    """Training went wrong: the loss is no longer a number, or nothing is left to train on."""


class OutOfMemory(TrainingError):
    """A training needs more memory than there is."""


class Interrupted(EngramckaError):
    """A signal stopped the run after its state was saved; the same command goes on."""

    exit_code = 75
