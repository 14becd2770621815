"""Make transformers know our architectures as soon as it can open models, and not before.

``AutoModelForCausalLM`` should open our checkpoints once engramcka is imported, but importing
engramcka must not load torch. So either transformers' auto classes are there already, and the
architectures register now, or they register right after those classes are imported. Nothing of
transformers is changed. Loads nothing itself.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

AUTO_CLASSES = "transformers.models.auto.modeling_auto"
ARCHITECTURES = ("engramcka.models.hyper", "engramcka.models.engram")


class _ThenRegister(Loader):
    """Loads a module as its own loader would, then imports our architectures."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        _register()


class _Waiting(MetaPathFinder):
    """Steps in once, when transformers' auto classes are about to be imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != AUTO_CLASSES:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _ThenRegister(spec.loader)
        return spec


def register_architectures() -> None:
    """Register now or when transformers' auto classes come; more than once does no harm."""
    if AUTO_CLASSES in sys.modules:
        _register()
    elif not any(isinstance(finder, _Waiting) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Waiting())


def _register() -> None:
    for name in ARCHITECTURES:
        import_module(name)
