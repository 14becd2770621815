"""The command line: one command a file, thin; the rest loads when a command needs it."""

from engramcka.cli.app import main

__all__ = ["main"]
