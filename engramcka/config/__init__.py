"""config.toml as typed, validated objects; a mistake in it is one line that points at it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
