"""Checkpoints whose weights are stored in fewer bits: read as numbers, or refused in a line.

fp8, mxfp4 and compressed-tensors are dequantised while they are loaded, on every machine: what
transformers would run the first two with on some GPUs is code from the hub, and rounds what enters
each product too. Other methods run as their packages do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from transformers.utils import quantization_config

from engramcka.errors import ConfigError, StoreError
from engramcka.models.checkpoint_files import in_short, stored_tensors

# Parts that quantised weights are stored in, by the ends of their names.
_PARTS = re.compile(
    r"(weight_scale\w*|scale_inv|input_scale|activation_scale|weight_packed|weight_shape|qweight|"
    r"qzeros|g_idx|absmax|quant_map|quant_state\.\w+|_blocks|_scales|\bscales|\bqscale_weight|SCB)$"
)
_DEQUANTISED = {  # method -> transformers' config of it
    "fp8": "FineGrainedFP8Config",
    "mxfp4": "Mxfp4Config",
    "compressed-tensors": "CompressedTensorsConfig",
}
_FP8 = ("F8_E4M3", "F8_E5M2")
_HUB_CODE = ("eetq", "fbgemm_fp8", "metal")  # methods whose kernels transformers gets from the hub


def _settings(config: Any) -> dict[str, Any]:
    """What a checkpoint's config.json says of its quantisation; empty where it says nothing.

    Raises:
        ConfigError: it says nothing that could be understood.
    """
    inside = config.get_text_config(decoder=True)
    for one, key in ((config, "quantization_config"), (inside, "quantization_config"),
                     (config, "compression_config")):  # fmt: skip
        found: Any = getattr(one, key, None)
        found = found.to_dict() if hasattr(found, "to_dict") else found
        if found and not isinstance(found, dict):
            raise ConfigError(f"{key} in config.json is {type(found).__name__}, not a table")
        if found:
            return dict(found)
    return {}


def stored_method(config: Any) -> str:
    """How a checkpoint's weights are quantised, as its config.json says; "" where they are not.

    Raises:
        ConfigError: it says nothing that could be understood.
    """
    found = _settings(config)
    if not found:
        return ""
    if found.get("load_in_4bit") or found.get("load_in_8bit"):
        return "bitsandbytes"
    method = getattr(found.get("quant_method"), "value", found.get("quant_method"))
    return str(method or "a method that it does not name")


def held_bits(config: Any, itemsize: int, quantization: str) -> float:
    """Bits of a weight as it is held in memory.

    Args:
        config: the checkpoint's.
        itemsize: bytes of one that is not quantised.
        quantization: on the way in, as in `engramcka.models.loading.load_checkpoint`.

    Raises:
        ConfigError: as `stored_method`.
    """
    stored, method = _settings(config), stored_method(config)
    if quantization != "none" or method == "bitsandbytes":
        return 4.0 if quantization == "4bit" or stored.get("load_in_4bit") else 8.0
    if method in ("gptq", "awq"):
        return float(stored.get("bits", 4))
    return 8.0 * itemsize  # fp8, mxfp4 and compressed-tensors are dequantised


def reading_options(
    path: str, config: Any, *, device: str | None, quantization: str, trust_remote_code: bool
) -> tuple[dict[str, Any], str]:
    """What transformers needs to read a checkpoint that is quantised, and what to know of it.

    Args:
        path: the checkpoint, for messages; its files are looked at where it is a folder.
        config: its config.
        device: where its weights go; None where they are not read here, so that what this machine
            lacks is part of the sentence and no error.
        quantization: as in `engramcka.models.loading.load_model`.
        trust_remote_code: whether kernels from the hub may run.

    Returns:
        Options of ``from_pretrained``, and a sentence for whoever reads the results; nothing of
        either where the weights are stored as they are.

    Raises:
        ConfigError: transformers does not read it, or needs a package or a device that is not here.
        StoreError: its weights cannot be read without more than is there.
    """
    try:
        method = stored_method(config)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    if not method:
        return {}, ""
    what = f"{path}: its weights are quantised by {method}"
    if quantization != "none":
        raise ConfigError(f"{what} already; leave quantization = {quantization!r} out")
    stored = _known_settings(what, method, config, trust_remote_code)
    lack = _lack(stored, device or "cpu")
    if lack and device is not None:
        raise ConfigError(f"{what}, which cannot be read here ({lack})")
    if lack:
        return {}, f"its weights are quantised by {method}, which this machine cannot read ({lack})"
    if method not in _DEQUANTISED:
        return {}, ""
    if method == "fp8":
        _require_scales(path)
    dequantised = getattr(quantization_config, _DEQUANTISED[method])(dequantize=True)
    return {"quantization_config": dequantised}, (
        f"its {method} weights were dequantised while they were loaded, and what enters them is "
        f"not rounded as {method} kernels would"
    )


def refuse_unread_parts(path: str, unread: Iterable[str]) -> None:
    """Refuse weights whose scales stay unread: the numbers would be others.

    Args:
        path: the checkpoint, for the message.
        unread: names of what is stored and was not read.

    Raises:
        StoreError: parts of quantised weights are among them.
    """
    parts = sorted(name for name in unread if _PARTS.search(name))
    if parts:
        raise StoreError(
            f"{path}: it holds quantised weights that its config.json does not say how to read, "
            f"the first is {parts[0]} ({len(parts):,} in all); give a checkpoint with a "
            "quantization_config that transformers knows, or one that is not quantised",
            exit_code=2,
        )


def _known_settings(what: str, method: str, config: Any, trust_remote_code: bool) -> dict[str, Any]:
    """A checkpoint's settings of a method that transformers knows and that may run."""
    import transformers
    from transformers.quantizers.auto import AutoHfQuantizer

    stored: Any = getattr(config, "quantization_config", None) or getattr(
        config.get_text_config(decoder=True), "quantization_config", None
    )
    stored = stored.to_dict() if hasattr(stored, "to_dict") else stored
    if not stored or not (stored.get("quant_method") or method == "bitsandbytes"):
        raise ConfigError(f"{what}; give one with a quantization_config, or one that is whole")
    if not AutoHfQuantizer.supports_quant_method(stored):
        raise ConfigError(
            f"{what}, which transformers {transformers.__version__} does not read; give a "
            "checkpoint that is not quantised, or in another way"
        )
    if method in _HUB_CODE and not trust_remote_code:
        raise ConfigError(
            f"{what}, and transformers gets the code for that from the hub; set trust_remote_code "
            "= true if you trust that"
        )
    return dict(stored)


def _lack(stored: dict[str, Any], device: str) -> str:
    """What a method needs and is not here, as transformers says it; "" where nothing is."""
    from transformers.quantizers.auto import AutoHfQuantizer

    try:
        quantizer = AutoHfQuantizer.from_config(stored, pre_quantized=True)
        quantizer.validate_environment(device_map=device, weights_only=True)
    except Exception as error:  # of whatever the packages of so many methods raise
        return in_short(error)
    return ""


def _require_scales(path: str) -> None:
    """Refuse fp8 weights without scales, or with blocks that do not fill them evenly.

    transformers leaves the former as they are, and takes the size of a block for rows over rows of
    scales, which is another where the last block is cut.
    """
    stored = stored_tensors(path)
    for name, (dtype, shape) in stored.items():
        if dtype not in _FP8:
            continue
        inside = name.removesuffix("weight")
        places = (f"{name}_scale_inv", f"{name}_scale", f"{inside}scale", f"{inside}qscale_weight")
        scales = [stored[place][1] for place in places if place in stored]
        if not scales:
            raise ConfigError(f"{path}: {name} is {dtype} and has no scale; it cannot be read")
        for size, count in zip(shape[-2:], scales[0][-2:], strict=False):
            block = size // count if count > 1 else 1
            if size % max(1, count) or block & (block - 1):  # blocks are powers of two
                raise ConfigError(
                    f"{path}: {name} is {shape} with scales {scales[0]}, and transformers reads "
                    "only blocks that fill a weight evenly; give a checkpoint in bfloat16"
                )
