"""results.zarr: the dataclasses of `engramcka.results` as Zarr groups, and back.

A map is the group cka/NAME, a sweep sweep/NAME. Arrays have dimension names and coordinates, so
that ``xarray.open_zarr(path, group="cka/NAME")`` gives a labelled Dataset. Knows nothing of how a
result was computed or how it is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec

from engramcka.errors import EngramckaError, StoreError
from engramcka.results import CkaMap, LayerDiagnostics, LossSweep, soft_alignment
from engramcka.stores import layout
from engramcka.whole import whole

ALIGNMENT_K = 5  # rows of the stored soft alignment, as in the paper

_CKA_ATTRIBUTES = (
    "y_label",
    "x_label",
    "estimator",
    "kernel",
    "standardize",
    "batch_size",
    "n_samples",
    "n_dropped",
    "dtype",
    "route",
    "warnings",
    "provenance",
)
_SWEEP_ATTRIBUTES = ("label", "baseline_label", "unit", "provenance")


def write_cka(results: Path, name: str, cka: CkaMap, inputs: Mapping[str, Any]) -> None:
    """Write one map as results/cka/NAME, whole or not at all.

    Args:
        results: path of results.zarr.
        name: name of the map.
        cka: the map.
        inputs: all that the map was made from; a later run compares it to see what is done.
    """

    def fill(group: zarr.Group) -> None:
        attributes = {key: getattr(cka, key) for key in _CKA_ATTRIBUTES}
        _write_attributes(group, "cka", attributes, inputs)
        _write(group, "y_layer", np.array(cka.y_layers), ("y_layer",))
        _write(group, "x_layer", np.array(cka.x_layers), ("x_layer",))
        cell = ("y_layer", "x_layer")
        for key, dimensions in (
            ("similarity", cell),
            ("ci_low", cell),
            ("ci_high", cell),
            ("jackknife", ("group", *cell)),
            ("null", ("permutation", *cell)),
        ):
            value = getattr(cka, key)
            if value is not None:
                _write(group, key, value, dimensions)
        _write(group, "soft_alignment", cka.soft_alignment(ALIGNMENT_K), ("x_layer",))
        if cka.jackknife is not None:
            aligned = soft_alignment(cka.jackknife, np.array(cka.y_layers), ALIGNMENT_K)
            _write(group, "soft_alignment_jackknife", aligned, ("group", "x_layer"))
        for side in ("y", "x"):
            diagnostics = getattr(cka, f"{side}_diagnostics")
            if diagnostics is not None:
                _write_diagnostics(group, side, diagnostics)

    _write_whole(results, f"cka/{name}", fill)


def read_cka(results: Path, name: str) -> CkaMap:
    """Read one map.

    Raises:
        StoreError: it is not there, broken, or of a newer format version; the message names the
            store and the array.
    """
    group = layout.open_group(results / "cka" / name, "cka")
    values: dict[str, Any] = _read_attributes(group, _CKA_ATTRIBUTES)
    values["warnings"] = tuple(values.get("warnings", ()))
    for key in ("similarity", "y_layer", "x_layer", "ci_low", "ci_high", "jackknife", "null"):
        if key in group or key in ("similarity", "y_layer", "x_layer"):
            values[key] = _read(group, key)
    for side in ("y", "x"):
        values[f"{side}_layers"] = tuple(values.pop(f"{side}_layer").tolist())
        values[f"{side}_diagnostics"] = _read_diagnostics(group, side)
    cka: CkaMap = _build(CkaMap, values, group)
    return cka


def write_sweep(results: Path, name: str, sweep: LossSweep, inputs: Mapping[str, Any]) -> None:
    """Write one sweep as results/sweep/NAME, whole or not at all; see `write_cka`."""

    def fill(group: zarr.Group) -> None:
        attributes = {key: getattr(sweep, key) for key in _SWEEP_ATTRIBUTES}
        attributes["variants"] = list(sweep.variants)
        attributes["reference"] = dict(sweep.reference)
        _write_attributes(group, "sweep", attributes, inputs)
        _write(group, "layer", np.array(sweep.layers), ("layer",))
        _write(group, "seed", np.array(sweep.seeds), ("seed",))
        _write(group, "loss", sweep.loss, ("layer", "seed"))
        dimension = "seed" if len(sweep.baseline) == len(sweep.seeds) else "baseline_seed"
        _write(group, "baseline", sweep.baseline, (dimension,))
        _write(group, "variant_loss", np.array(list(sweep.variants.values())), ("variant",))

    _write_whole(results, f"sweep/{name}", fill)


def read_sweep(results: Path, name: str) -> LossSweep:
    """Read one sweep; raises as `read_cka`."""
    group = layout.open_group(results / "sweep" / name, "sweep")
    values = _read_attributes(group, (*_SWEEP_ATTRIBUTES, "reference", "variants"))
    names = values.pop("variants", [])
    values["variants"] = dict(zip(names, _read(group, "variant_loss").tolist(), strict=False))
    values["layers"] = tuple(_read(group, "layer").tolist())
    values["seeds"] = tuple(_read(group, "seed").tolist())
    values["loss"] = _read(group, "loss")
    values["baseline"] = _read(group, "baseline")
    sweep: LossSweep = _build(LossSweep, values, group)
    return sweep


def names(results: Path, kind: str) -> list[str]:
    """Names of the results of one kind ("cka" or "sweep"), sorted; empty where there are none."""
    folder = results / kind
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in folder.iterdir() if (entry / "zarr.json").is_file())


def read_inputs(results: Path, kind: str, name: str) -> Any | None:
    """What a stored result was made from, or None if there is no such result to be read."""
    try:
        return layout.open_group(results / kind / name, kind).attrs.get(layout.INPUTS)
    except StoreError:
        return None


def open_root(results: Path) -> zarr.Group:
    """The root of results.zarr, open for writing; made with its kinds if it is not there."""
    if (results / "zarr.json").is_file():
        return layout.open_group(results, "results", mode="r+")
    root = zarr.open_group(results, mode="a", zarr_format=3)
    root.attrs.update(layout.header("results"))
    for kind in ("cka", "sweep"):
        root.require_group(kind)
    return root


def _write_whole(results: Path, name: str, fill: Callable[[zarr.Group], None]) -> None:
    """Fill the group beside the store, where no reader lists it, and move it in when complete."""
    with whole(results / name, beside=results) as scratch:
        fill(zarr.open_group(scratch, mode="w", zarr_format=3))
        (results / name).parent.mkdir(parents=True, exist_ok=True)


def _write_attributes(
    group: zarr.Group, kind: str, attributes: Mapping[str, Any], inputs: Mapping[str, Any]
) -> None:
    plain = {
        key: list(value) if isinstance(value, tuple) else value for key, value in attributes.items()
    }
    group.attrs.update({**layout.header(kind), **plain, layout.INPUTS: dict(inputs)})


def _read_attributes(group: zarr.Group, keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: group.attrs[key] for key in keys if key in group.attrs}


def _write(
    group: zarr.Group, key: str, value: np.ndarray[Any, Any], dimensions: tuple[str, ...]
) -> None:
    """One small array as one chunk, uncompressed, with a checksum: any reader opens it."""
    with zarr.config.set(layout.KEEP_ZEROS):
        group.create_array(
            key,
            data=np.ascontiguousarray(value),
            chunks=tuple(max(1, size) for size in value.shape),
            compressors=[Crc32cCodec()],
            dimension_names=dimensions,
        )


def _read(group: zarr.Group, key: str) -> np.ndarray[Any, Any]:
    try:
        array: Any = group[key]
        layout.require_chunks(array, array.nchunks)
        return np.asarray(array[...])
    except StoreError:
        raise
    except Exception as error:  # a missing array, a corrupt chunk: zarr raises many kinds
        raise StoreError(
            f"{group.store_path}/{key}: cannot be read ({layout.first_line(error)})"
        ) from error


def _write_diagnostics(group: zarr.Group, side: str, diagnostics: LayerDiagnostics) -> None:
    for entry in fields(LayerDiagnostics):
        value = getattr(diagnostics, entry.name)
        if entry.name == "dropped":
            group.attrs[f"{side}_dropped"] = [list(layer) for layer in value]
        else:
            _write(group, f"{side}_{entry.name}", value, (f"{side}_layer",))


def _read_diagnostics(group: zarr.Group, side: str) -> LayerDiagnostics | None:
    names = [entry.name for entry in fields(LayerDiagnostics) if entry.name != "dropped"]
    if not all(f"{side}_{name}" in group for name in names):
        return None
    dropped: Any = group.attrs.get(f"{side}_dropped", [])
    return LayerDiagnostics(
        **{name: _read(group, f"{side}_{name}") for name in names},
        dropped=tuple(tuple(layer) for layer in dropped),
    )


def _build(kind: type[Any], values: dict[str, Any], group: zarr.Group) -> Any:
    try:
        return kind(**values)
    except (EngramckaError, TypeError, ValueError) as error:
        raise StoreError(
            f"{group.store_path}: does not hold a {kind.__name__} ({error})"
        ) from error
