"""Whatever is array-like gives the value of its dense array, or is refused in a line."""

import ml_dtypes
import numpy as np
import pytest
import torch
from hidden_states import Blocks
from torch.masked import masked_tensor

from engramcka import cka_map
from engramcka.errors import ComparisonError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 20))
Y = X + RNG.normal(size=(200, 20))
T = torch.from_numpy(Y)


def masked(dtype=np.float64):
    """Rows 0 to 19 of Y masked over the fill value that netCDF files have."""
    values = Y.copy()
    values[:20] = 9.97e36
    mask = np.zeros(Y.shape, bool)
    mask[:20] = True
    return np.ma.array(values.astype(dtype), mask=mask, fill_value=9.97e36)


def pandas():
    return pytest.importorskip("pandas")


def xarray():
    return pytest.importorskip("xarray")


def dask():
    return pytest.importorskip("dask.array")


def scipy():
    return pytest.importorskip("scipy.sparse")


@pytest.mark.parametrize(
    "make",
    [
        masked,
        lambda: list(masked()),
        lambda: Blocks(masked()),  # as a netCDF4 variable, whose slices are masked
        lambda: np.ma.stack(list(masked())),
    ],
)
def test_masked_values_are_missing_values(make):
    expected = cka_map([Y[20:]], [X[20:]], estimator="debiased").similarity
    assert expected[0, 0] == pytest.approx(0.4965, abs=1e-4)
    found = cka_map([make()], [X], estimator="debiased", nonfinite="drop")
    np.testing.assert_allclose(found.similarity, expected, rtol=0, atol=1e-12)
    assert found.n_dropped == 20
    with pytest.raises(ComparisonError, match=r"y layer 1, sample 0: .* nonfinite=\"drop\""):
        cka_map([make()], [X])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", [np.float16, np.float32, ml_dtypes.bfloat16])
def test_masked_values_of_every_dtype_are_missing(dtype):
    half = Y[20:].astype(dtype)
    expected = cka_map([half], [X[20:]]).similarity
    found = cka_map([masked(dtype)], [X], nonfinite="drop")
    np.testing.assert_array_equal(found.similarity, expected)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "make",
    [
        lambda: np.ma.array(Y),
        lambda: np.ma.array(Y, mask=False),
        lambda: np.matrix(Y),
        lambda: Y.tolist(),
        lambda: tuple(map(tuple, Y)),
        lambda: [torch.tensor(row) for row in Y],
        lambda: Y.astype(">f8"),
        lambda: Blocks(Y.astype(">f8")),
        lambda: np.asfortranarray(Y)[::-1][::-1],
        lambda: torch.nn.Parameter(T),
        lambda: torch.complex(T, -T).conj().imag,
        lambda: pandas().DataFrame(Y, index=RNG.permutation(200)),
        lambda: xarray().DataArray(Y, dims=("s", "w"), coords={"s": RNG.permutation(200)}),
        lambda: dask().from_array(Y, chunks=(64, 7)),
    ],
)
def test_what_holds_the_same_values_gives_the_same_map(make):
    expected = cka_map([Y], [X]).similarity
    np.testing.assert_allclose(cka_map([make()], [X]).similarity, expected, rtol=0, atol=1e-12)


def nested():
    return torch.nested.nested_tensor([T[:100], T[100:]])


class Turned(Blocks):
    """Its slices are not as it says."""

    def __getitem__(self, index):
        return super().__getitem__(index).T


class Closed(Blocks):
    """Its slices are refused by its library."""

    def __getitem__(self, index):
        raise RuntimeError("no implicit\nconversion")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (T.to_sparse, r"a tensor of layout torch\.sparse_coo; .* to_dense\(\) gives one"),
        (T.to_sparse_csr, r"layout torch\.sparse_csr"),
        (T.float().to_mkldnn, r"layout torch\._mkldnn"),
        (lambda: T.to("meta"), "a meta tensor, without values"),
        (lambda: torch.quantize_per_tensor(T.float(), 0.1, 0, torch.qint8), "dequantize"),
        (nested, "a nested tensor; a layer is a plain dense tensor: pad its parts with NaN"),
        (lambda: torch.nested.nested_tensor([T, T], layout=torch.jagged), "a NestedTensor"),
        (lambda: masked_tensor(T, T > 0), "a MaskedTensor; .* filled with NaN"),
        (lambda: T + 0j, "is complex128; it must be float64"),
        (lambda: T.long(), "is int64"),
        (lambda: Y + 0j, "is complex128"),
        (lambda: Y > 0, "is bool"),
        (lambda: Y.astype(object), "is object"),
        (lambda: Y.astype(np.longdouble), "it must be float64, float32, float16 or bfloat16"),
        (lambda: np.ma.array(Y.astype(int), mask=Y > 0), "is int64"),
        (lambda: np.zeros((200, 20), [("a", "f4")]), "it must be float64"),
        (lambda: np.ma.array(np.zeros((200, 20), [("a", "f4")]), mask=True), "it must be float64"),
        (lambda: [[1.0, 2.0], [3.0]], "is a list that makes no array"),
        (lambda: [[1.0, None]] * 200, "is object"),
        (lambda: None, r"has shape \(\); a layer is a matrix"),
        (lambda: {"a": Y}, r"has shape \(\)"),
        (lambda: torch.zeros(()), r"has shape \(\)"),
        (lambda: pandas().DataFrame(Y).assign(a="b"), "is object"),
        (lambda: pandas().Series(Y[:, 0]), r"has shape \(200,\)"),
        (lambda: Turned(Y), r"is a Turned, .* \(\(20, .*\) of float64 for .* convert it to one"),
        (lambda: Closed(Y), r"is a Closed, .* \(no implicit\); convert it to one"),
        (lambda: scipy().csr_array(Y), "is a csr_array, whose rows cannot be read as a dense"),
        (lambda: scipy().coo_matrix(Y), "is a coo_matrix"),
        (lambda: (a := dask().from_array(Y))[a[:, 0] > 0], r"has shape \(nan, 20\)"),
    ],
)
def test_what_is_no_dense_array_is_refused_in_a_line(make, says):
    for nonfinite in ("error", "drop"):
        with pytest.raises(ComparisonError, match=rf"^x layer 2 .*{says}") as error:
            cka_map([Y, Y], [X, make()], nonfinite=nonfinite)
        assert "\n" not in str(error.value)
