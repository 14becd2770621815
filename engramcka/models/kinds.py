"""What a checkpoint is opened as, by transformers' own mappings from the type of a model.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

Kind = Literal["causal", "multimodal", "encoder", "encoder half", ""]


def opens_as(architectures: Sequence[str], model_type: str) -> Kind:
    """What a checkpoint is opened as, from its config.json: "" for what cannot be compared.

    A causal LM where it was saved as one, or says nothing; "multimodal" where it was saved as a
    model that takes pictures or sound beside text; else an encoder or a decoder without its head,
    which maps take and a lens does not. "encoder half" is the encoder of an encoder-decoder that
    was saved by itself, as T5EncoderModel.

    Args:
        architectures: the classes that it was saved as.
        model_type: as transformers calls it.
    """
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
        MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES,
        MODEL_MAPPING_NAMES,
    )

    known = set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    whole = MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES.get(model_type)
    is_wrapped = any(name.endswith("ForConditionalGeneration") for name in architectures)
    if whole and (whole in architectures or is_wrapped):
        return "multimodal"
    causal = [name for name in architectures if name in known or name.endswith("ForCausalLM")]
    if causal or not architectures:
        is_only_whole = whole and model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        return "multimodal" if is_only_whole else "causal"
    if model_type in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
        half = MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES.get(model_type)
        return "encoder half" if half in architectures else ""
    if is_wrapped and model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return "causal"
    return "encoder" if model_type in MODEL_MAPPING_NAMES and not is_wrapped else ""


def kinds_of(config: Any) -> tuple[Kind, ...]:
    """What a checkpoint of a config may be opened as, in order; text alone has a class first."""
    from transformers.models.auto import modeling_auto

    first = opens_as(config.architectures or [], config.model_type) or "causal"
    causal = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    whole = modeling_auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES
    if first in ("causal", "multimodal") and config.model_type in causal.keys() & whole.keys():
        return ("causal", "multimodal")
    return (first,)
