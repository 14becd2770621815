"""engramcka: compare language models layer by layer.

Public names load on first use (PEP 562), so that importing the package, the command line or the
terminal app costs neither torch nor matplotlib.
"""

import lazy_loader

__getattr__, __dir__, _names = lazy_loader.attach_stub(__name__, __file__)

__version__ = "0.1.0"
__all__ = [*_names, "__version__"]
