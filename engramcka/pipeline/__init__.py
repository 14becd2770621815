"""A config as tasks: what is done, what is left, and doing it.

Making a plan loads neither torch nor transformers; working it off does.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
