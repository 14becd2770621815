"""The config of a decoder with Engram modules, as it is saved beside the weights.

Beside it a file of code is saved that imports this package and does nothing else, and the config
names it in ``auto_map``: programs that load with ``trust_remote_code=True`` (lm-evaluation-harness
and others) so open the model without an import of their own, where this package is installed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

from transformers import AutoConfig
from transformers.configuration_utils import PreTrainedConfig, SubConfigSpec

import engramcka.models.hyper  # noqa: F401  (registers the backbone with hyper-connections)
from engramcka.config.memory_tables import EngramConfig

CODE = "modeling_engramcka"
AUTO_MAP = {
    "AutoConfig": f"{CODE}.EngramModelConfig",
    "AutoModel": f"{CODE}.EngramModel",
    "AutoModelForCausalLM": f"{CODE}.EngramForCausalLM",
}
_CODE_TEXT = '''"""Opens this model with the package engramcka, which must be installed."""

from engramcka.models.engram import EngramForCausalLM, EngramModel, EngramModelConfig

__all__ = ["EngramForCausalLM", "EngramModel", "EngramModelConfig"]
'''


class EngramModelConfig(PreTrainedConfig):
    """Config of `EngramForCausalLM`.

    The backbone's config is called ``text_config``, the name under which transformers looks for
    the decoder in a composite config (generation, caches, Trainer).

    Attributes:
        text_config: the backbone's config, of its own class.
        engram: the fields of `EngramConfig`.
        n_canonical_ids: canonical ids after tokenizer compression.
        pad_canonical_id: the one that stands before the start and under padding.
        document_end_id: token that ends a document; None if none is known.
        memory: False opens the model with its memory silenced, for scores without it (paper,
            section 6.3); ``from_pretrained(folder, memory=False)`` sets it.
    """

    model_type = "engramcka"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values", "cache"]
    sub_configs_defaults: ClassVar[dict[str, SubConfigSpec]] = {
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="llama")
    }

    text_config: dict[str, Any] | PreTrainedConfig | None = None
    engram: dict[str, Any] | None = None
    n_canonical_ids: int = 0
    pad_canonical_id: int = 0
    document_end_id: int | None = None
    memory: bool = True
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        # Left to itself, the base class sets both to None, on the backbone's config too.
        kwargs.setdefault("attn_implementation", {})
        kwargs.setdefault("experts_implementation", {})
        kwargs["auto_map"] = dict(AUTO_MAP)
        super().__post_init__(**kwargs)

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoConfig") -> None:
        """Nothing: transformers would copy this module beside each model that is saved."""

    def save_pretrained(
        self, save_directory: Any, push_to_hub: bool = False, **kwargs: Any
    ) -> None:
        """Save the config, and the code that imports this package.

        Args:
            save_directory: folder, made if it is not there.
            push_to_hub: as transformers has it.
            **kwargs: as transformers has them.
        """
        Path(save_directory).mkdir(parents=True, exist_ok=True)
        (Path(save_directory) / f"{CODE}.py").write_text(_CODE_TEXT, encoding="utf-8")
        super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)

    @property
    def modules(self) -> EngramConfig:
        """The Engram modules' numbers as a validated object.

        Keys that a model was saved without mean what was done before there were such.
        """
        saved = {"documents": "joined", **(self.engram or {})}
        if not saved.pop("multi_branch", True):
            saved["fusion"] = "mean"
        return EngramConfig.model_validate_json(json.dumps(saved))

    def backbone(self, name: str, default: Any = None) -> Any:
        """A value of the backbone's config."""
        return getattr(self.text_config, name, default)

    @property
    def vocab_size(self) -> int:
        """The backbone's."""
        return self.backbone("vocab_size")

    @property
    def hidden_size(self) -> int:
        """The backbone's."""
        return self.backbone("hidden_size")

    @property
    def num_hidden_layers(self) -> int:
        """The backbone's."""
        return self.backbone("num_hidden_layers")


AutoConfig.register(EngramModelConfig.model_type, EngramModelConfig, exist_ok=True)
