"""Make transformers know our architectures once engramcka is imported, though that loads no torch.

``AutoModelForCausalLM`` learns of them right after the module that defines it has been imported,
whether that was before engramcka or comes later. At that moment transformers is often only half
imported, so our models must not be yet: a stand-in is registered, which imports the real class
when a model is first opened or built. Nothing of transformers is changed.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # importlib.abc takes as long to import as the rest of the package
    from collections.abc import Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType

AUTO_CLASSES = "transformers.models.auto.modeling_auto"


def _register() -> None:
    configs = import_module("engramcka.models.configs")
    if not hasattr(configs, "HyperDeepseekConfig"):
        return  # it is what is being imported, and calls this once more at its end
    auto = import_module(AUTO_CLASSES).AutoModelForCausalLM
    for config, module, name in (
        (configs.EngramModelConfig, "engramcka.models.engram.model", "EngramForCausalLM"),
        (configs.HyperDeepseekConfig, "engramcka.models.hyper", "HyperDeepseekForCausalLM"),
    ):
        configs.AutoConfig.register(config.model_type, config, exist_ok=True)
        if module not in sys.modules:
            auto.register(config, _stand_in(config, module, name), exist_ok=True)


def _stand_in(config: Any, module: str, name: str) -> type:
    """A class that transformers' auto classes can hold in place of one not yet imported."""

    def from_pretrained(_cls: type, *args: Any, **kwargs: Any) -> Any:
        return getattr(import_module(module), name).from_pretrained(*args, **kwargs)

    def from_config(_cls: type, *args: Any, **kwargs: Any) -> Any:
        return getattr(import_module(module), name)._from_config(*args, **kwargs)

    methods = {"from_pretrained": from_pretrained, "_from_config": from_config}
    return type(
        name,
        (),
        {
            "__module__": module,
            "config_class": config,
            **{key: classmethod(method) for key, method in methods.items()},
        },
    )


class _ThenRegister:
    """Loads a module as its own loader would, then registers."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        _register()


class _Waiting:
    """Steps in once, when transformers' auto classes are about to be imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != AUTO_CLASSES:
            return None
        from importlib.util import find_spec

        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _ThenRegister(spec.loader)  # type: ignore[assignment]
        return spec


def register_architectures() -> None:
    """See above; more than once does no harm."""
    if AUTO_CLASSES in sys.modules:
        _register()
    elif not any(isinstance(finder, _Waiting) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Waiting())
