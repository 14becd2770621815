"""Results as labelled arrays for analysis: an xarray Dataset of any kind of result.

Names and dimensions are those of the stores (`engramcka.stores.kinds`), so that a Dataset made here
and one that xarray opens from a run's results.zarr are alike. Knows no files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from engramcka.errors import EngramckaError
from engramcka.stores.kinds import kind_of

if TYPE_CHECKING:
    import xarray

_LABELS = {  # dimension -> the result's field that names its entries
    "variant": "variants",
    "reference": "reference",
    "type": "types",
    "class": "classes",
    "order": "orders",
}


def to_xarray(result: Any) -> xarray.Dataset:
    """A map, lens curve, sweep or any other result as a Dataset.

    Layers, seeds and the names of types, ablations and references are coordinates; the losses of a
    sweep's references are ``reference_loss``. Attributes are the plain facts: labels, estimator,
    numbers of samples.

    Raises:
        EngramckaError: xarray is not installed.
    """
    try:
        import xarray
    except ImportError as error:
        raise EngramckaError(
            "xarray is not installed; pip install xarray to have results as Datasets"
        ) from error
    kind = kind_of(result)
    arrays, _ = kind.pack(result)
    if getattr(result, "reference", None):
        losses = np.array(list(result.reference.values()), dtype=np.float64)
        arrays["reference_loss"] = (losses, ("reference",))
    dimensions = {name for _, along in arrays.values() for name in along}
    labels = {
        name: list(getattr(result, source))
        for name, source in _LABELS.items()
        if name in dimensions and getattr(result, source)
    }
    facts = {key: getattr(result, key) for key in kind.attributes}
    return xarray.Dataset(
        {name: (along, value) for name, (value, along) in arrays.items() if along != (name,)},
        coords={
            **{name: value for name, (value, along) in arrays.items() if along == (name,)},
            **labels,
        },
        attrs={key: fact for key, fact in facts.items() if isinstance(fact, str | int | float)},
    )
