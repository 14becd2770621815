"""Two tiny models and Few-NERD on disk, and a way to run a config in this process."""

from run_fixtures import alone, run, sources

__all__ = ["alone", "run", "sources"]
