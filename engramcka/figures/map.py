"""Maps by another measure than CKA: drawn, described and tabled as CKA maps are."""

from engramcka.figures.cka import DRAWING

__all__ = ["DRAWING"]
