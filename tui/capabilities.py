"""What the terminal can show, read from environment variables alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Colours = Literal["true", "256", "16", "none"]

_TERMS: dict[str, Colours] = {"kitty": "256", "256color": "256"}


@dataclass(frozen=True)
class Capabilities:
    """What may be written: how many colours, and whether only ASCII."""

    colours: Colours = "true"
    ascii: bool = False

    @property
    def half_blocks(self) -> bool:
        """Whether a character can show two cells in colours that tell them apart."""
        return self.colours in ("true", "256") and not self.ascii


def capabilities(environ: Mapping[str, str]) -> Capabilities:
    """What a terminal with these variables shows; 24-bit and 256 colours as rich finds them."""
    return Capabilities(_colours(environ), ascii_only(environ))


def _colours(environ: Mapping[str, str]) -> Colours:
    term = environ.get("TERM", "").strip().lower()
    if "NO_COLOR" in environ or term in ("dumb", "unknown"):
        return "none"
    if environ.get("COLORTERM", "").strip().lower() in ("truecolor", "24bit"):
        return "true"
    return _TERMS.get(term.rpartition("-")[2], "16")


def ascii_only(environ: Mapping[str, str]) -> bool:
    """Whether the locale asks for something else than UTF-8.

    Without any locale variable UTF-8 is taken, as in most containers. Python itself sets
    LC_CTYPE=C.UTF-8 when it finds the C locale (PEP 538): next to LANG=C that is not the user's.
    """
    lang = environ.get("LANG", "")
    ctype = environ.get("LC_CTYPE", "")
    if lang in ("C", "POSIX") and ctype == "C.UTF-8":
        ctype = ""
    locale = environ.get("LC_ALL") or ctype or lang
    return bool(locale) and "utf" not in locale.lower()
