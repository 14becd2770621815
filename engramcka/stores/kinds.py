"""Which field of a result is which array, attribute and dimension of its Zarr group.

One entry a kind of result. Arrays have names and dimensions here; how they get to disk is
`engramcka.stores.results`' business. Knows no zarr.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from engramcka.results import (
    AllocationSweep,
    CkaMap,
    GateMap,
    GateText,
    LayerDiagnostics,
    LensCurve,
    LossSweep,
    MemoryAblation,
    TrainingCurve,
    soft_alignment,
)

ALIGNMENT_K = 5  # rows of the stored soft alignment, as in the paper

Array = np.ndarray[Any, Any]
Arrays = dict[str, tuple[Array, tuple[str, ...]]]  # array name -> (values, dimension names)
Pack = tuple[Arrays, dict[str, Any]]  # arrays, and attributes beyond the plain fields
_MAX_TEXT = 100_000  # characters of a label or a warning
_TUPLES = {
    *("layers", "y_layers", "x_layers", "seeds", "orders", "counts", "experts"),
    *("massive_samples", "warnings", "types", "classes", "parameters"),
}


@dataclass(frozen=True)
class Kind:
    """How one dataclass of results is stored."""

    name: str
    result: type[Any]
    attributes: tuple[str, ...]  # fields kept as JSON
    arrays: Mapping[str, tuple[str, ...]]  # fields kept as arrays -> their dimensions
    names: Mapping[str, str] = field(default_factory=dict)  # field -> array, where they differ
    optional: tuple[str, ...] = ()  # fields that may be None
    more: Callable[[Any], Pack] = lambda result: ({}, {})
    less: Callable[[Mapping[str, Array], Mapping[str, Any]], dict[str, Any]] = (
        lambda arrays, attributes: {}
    )

    @property
    def required(self) -> list[str]:
        """Names of the arrays that are always there."""
        return [self.names.get(key, key) for key in self.arrays if key not in self.optional]

    def pack(self, result: Any) -> Pack:
        """A result's arrays, and its attributes beyond the plain fields."""
        found: Arrays = {}
        for key, dimensions in self.arrays.items():
            value = getattr(result, key)
            if value is not None:
                found[self.names.get(key, key)] = (np.array(value), dimensions)
        arrays, attributes = self.more(result)
        return {**found, **arrays}, attributes

    def unpack(self, arrays: Mapping[str, Array], attributes: Mapping[str, Any]) -> dict[str, Any]:
        """The dataclass's fields."""
        values: dict[str, Any] = {
            key: arrays[self.names.get(key, key)]
            for key in self.arrays
            if self.names.get(key, key) in arrays
        }
        values |= {key: attributes[key] for key in self.attributes if key in attributes}
        for key in _TUPLES & values.keys():
            values[key] = tuple(np.asarray(values[key]).tolist())
        hints = get_type_hints(self.result)
        found = {**values, **self.less(arrays, attributes)}
        for key, value in found.items():
            if not isinstance(value, np.ndarray) and not _fits(value, hints[key]):
                raise ValueError(f"{key} = {repr(value)[:60]} is no {hints[key]}")
        return found


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value from JSON is of a field's type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin is Literal:
        return value in arguments
    if origin in (Union, UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(entry, arguments[0]) for entry in value)
    if origin is not None:
        key, inside = arguments if len(arguments) == 2 else (Any, Any)
        return isinstance(value, Mapping) and all(
            _fits(name, key) and _fits(entry, inside) for name, entry in value.items()
        )
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int and isinstance(value, bool):
        return False
    return isinstance(value, hint) and not (hint is str and len(value) > _MAX_TEXT)


def kind_of(result: Any) -> Kind:
    """The kind that a dataclass of `engramcka.results` is stored as."""
    return next(kind for kind in KINDS.values() if isinstance(result, kind.result))


_CELL = ("y_layer", "x_layer")
_DIAGNOSTICS = [entry.name for entry in fields(LayerDiagnostics) if entry.name != "dropped"]


def _pack_cka(cka: CkaMap) -> Pack:
    """The soft alignment, so that other tools need not compute it, and the diagnostics."""
    arrays: Arrays = {"soft_alignment": (cka.soft_alignment(ALIGNMENT_K), ("x_layer",))}
    attributes: dict[str, Any] = {}
    if cka.jackknife is not None:
        aligned = soft_alignment(cka.jackknife, np.array(cka.y_layers), ALIGNMENT_K)
        arrays["soft_alignment_jackknife"] = (aligned, ("group", "x_layer"))
    for side in ("y", "x"):
        found: LayerDiagnostics | None = getattr(cka, f"{side}_diagnostics")
        if found is None:
            continue
        for name in _DIAGNOSTICS:
            arrays[f"{side}_{name}"] = (getattr(found, name), (f"{side}_layer",))
        attributes[f"{side}_dropped"] = [list(layer) for layer in found.dropped]
    return arrays, attributes


def _unpack_cka(arrays: Mapping[str, Array], attributes: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for side in ("y", "x"):
        if all(f"{side}_{name}" in arrays for name in _DIAGNOSTICS):
            found[f"{side}_diagnostics"] = LayerDiagnostics(
                **{name: arrays[f"{side}_{name}"] for name in _DIAGNOSTICS},
                dropped=tuple(tuple(layer) for layer in attributes.get(f"{side}_dropped", [])),
            )
    return found


_LINES = {"variant": "variants", "reference": "reference"}  # dimension -> field


def _pack_sweep(sweep: LossSweep) -> Pack:
    """Means of the variants as an array, of the references as JSON; losses by seed where known."""
    dimension = "seed" if len(sweep.baseline) == len(sweep.seeds) else "baseline_seed"
    variants = np.array(list(sweep.variants.values()), dtype=np.float64)
    arrays: Arrays = {
        "baseline": (sweep.baseline, (dimension,)),
        "variant_loss": (variants, ("variant",)),
    }
    for line, means in _LINES.items():
        losses = getattr(sweep, f"{line}_losses")
        if losses:
            unknown = (float("nan"),) * len(sweep.seeds)
            rows = [losses.get(name, unknown) for name in getattr(sweep, means)]
            arrays[f"{line}_losses"] = (np.array(rows, dtype=np.float64), (line, "seed"))
    return arrays, {"variants": list(sweep.variants), "reference": dict(sweep.reference)}


def _unpack_sweep(arrays: Mapping[str, Array], attributes: Mapping[str, Any]) -> dict[str, Any]:
    losses = arrays["variant_loss"].tolist()
    found: dict[str, Any] = {
        "baseline": arrays["baseline"],
        "variants": dict(zip(attributes.get("variants", []), losses, strict=False)),
        "reference": attributes.get("reference", {}),
    }
    for line, means in _LINES.items():
        if f"{line}_losses" in arrays:
            rows = [tuple(row) for row in arrays[f"{line}_losses"].tolist()]
            found[f"{line}_losses"] = dict(zip(found[means], rows, strict=True))
    return found


def _pack_gates(gates: GateMap) -> Pack:
    arrays: Arrays = {
        f"text_{index:03d}": (text.alpha, (f"token_{index:03d}", "layer", "stream"))
        for index, text in enumerate(gates.texts)
    }
    return arrays, {"texts": [list(text.tokens) for text in gates.texts]}


def _unpack_gates(arrays: Mapping[str, Array], attributes: Mapping[str, Any]) -> dict[str, Any]:
    texts = attributes.get("texts", [])
    if not all(_fits(token, str) for tokens in texts for token in tokens):
        raise ValueError("tokens that are no text")
    return {
        "texts": tuple(
            GateText(tuple(tokens), arrays[f"text_{index:03d}"])
            for index, tokens in enumerate(texts)
        )
    }


_READINGS = ("kl", "entropy", "top1")
_TYPE = ("type", "layer", "stream")

KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "cka",
            CkaMap,
            attributes=(
                "y_label", "x_label", "estimator", "kernel", "normalize", "standardize",
                "batch_size", "batches", "n_batches", "pairs", "pairs_within", "n_documents",
                "interval_over", "seed", "n_samples", "n_dropped", "n_massive", "massive_samples",
                "n_massive_dropped", "left_out", "series", "step", "where", "dtype", "route",
                "warnings", "provenance",
            ),
            arrays={
                "y_layers": ("y_layer",),
                "x_layers": ("x_layer",),
                "similarity": _CELL,
                "ci_low": _CELL,
                "ci_high": _CELL,
                "jackknife": ("group", *_CELL),
                "null": ("permutation", *_CELL),
                "null_similarity": _CELL,
                "all_pairs": _CELL,
            },
            names={"y_layers": "y_layer", "x_layers": "x_layer"},
            optional=("ci_low", "ci_high", "jackknife", "null", "null_similarity", "all_pairs"),
            more=_pack_cka,
            less=_unpack_cka,
        ),
        Kind(
            "sweep",
            LossSweep,
            attributes=("label", "baseline_label", "unit", "warnings", "provenance"),
            arrays={
                "layers": ("layer",),
                "seeds": ("seed",),
                "loss": ("layer", "seed"),
                "difference_low": ("layer",),
                "difference_high": ("layer",),
            },
            names={"layers": "layer", "seeds": "seed"},
            optional=("difference_low", "difference_high"),
            more=_pack_sweep,
            less=_unpack_sweep,
        ),
        Kind(
            "allocation",
            AllocationSweep,
            attributes=("experts", "parameters", "label", "unit", "warnings", "provenance"),
            arrays={"rho": ("rho",), "seeds": ("seed",), "loss": ("rho", "seed")},
            names={"seeds": "seed"},
        ),
        Kind(
            "training",
            TrainingCurve,
            attributes=("label", "provenance"),
            arrays={
                "step": ("step",),
                "loss": ("step",),
                "validation_step": ("validation_step",),
                "validation_loss": ("validation_step",),
            },
        ),
        Kind(
            "lens",
            LensCurve,
            attributes=(
                "label", "direction", "final_entropy", "n_tokens", "memory", "where", "warnings",
                "provenance",
            ),
            arrays={
                "layers": ("layer",),
                **{
                    f"{reading}{end}": ("layer",)
                    for reading in _READINGS
                    for end in ("", "_low", "_high")
                },
            },
            names={"layers": "layer"},
            optional=tuple(
                f"{reading}{end}" for reading in _READINGS for end in ("", "_low", "_high")
            )[1:],
        ),
        Kind(
            "gates",
            GateMap,
            attributes=("types", "counts", "orders", "label", "warnings", "provenance"),
            arrays={
                "layers": ("layer",),
                "alpha": _TYPE,
                "alpha_low": _TYPE,
                "alpha_high": _TYPE,
                "order_share": ("layer", "order"),
                "collisions": ("layer", "order"),
            },
            names={"layers": "layer"},
            optional=("alpha_low", "alpha_high", "order_share", "collisions"),
            more=_pack_gates,
            less=_unpack_gates,
        ),
        Kind(
            "memory",
            MemoryAblation,
            attributes=("classes", "counts", "label", "warnings", "provenance"),
            arrays={
                "loss_on": ("class",),
                "loss_off": ("class",),
                "difference_low": ("class",),
                "difference_high": ("class",),
            },
            optional=("difference_low", "difference_high"),
        ),
    )
}  # fmt: skip
