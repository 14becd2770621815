"""What ranks send comes back as it was, and nothing else comes at all."""

from dataclasses import dataclass

import numpy as np
import pytest

from engramcka.errors import ComparisonError
from engramcka.results import LayerDiagnostics
from engramcka.serialization import pack, unpack


def test_a_tree_comes_back_as_it_was() -> None:
    diagnostics = LayerDiagnostics(*np.arange(14.0).reshape(7, 2), dropped=((1,), ()))
    value = [1, "a", None, True, 2.5, float("inf"), (3, [4]), {"k": (5,)}, diagnostics]
    back = unpack(pack(value))
    assert back[:-1] == value[:-1]
    assert isinstance(back[6], tuple)
    assert isinstance(back[-1], LayerDiagnostics)
    assert back[-1].dropped == ((1,), ())
    assert np.array_equal(back[-1].width, [8.0, 9.0])


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "uint8", "bool", "float16"])
def test_arrays_keep_their_bits_shape_and_dtype(dtype: str) -> None:
    array = np.array([[0, 1], [2, 250]]).astype(dtype)
    back = unpack(pack({"a": array, "b": [array.T]}))
    assert back["a"].dtype == array.dtype
    assert np.array_equal(back["a"], array)
    assert np.array_equal(back["b"][0], array.T)


def test_an_error_keeps_its_words_and_exit_code() -> None:
    back = unpack(pack(ComparisonError("layer 3", exit_code=2)))
    assert type(back) is ComparisonError
    assert (str(back), back.exit_code) == ("layer 3", 2)


@dataclass
class Ours:
    """A dataclass of no package."""

    a: int = 1


@pytest.mark.parametrize("value", [Ours(), {1, 2}, np.array([object()]), print, b"bytes"])
def test_other_things_are_not_sent(value: object) -> None:
    with pytest.raises(TypeError, match="cannot be sent"):
        pack(value)


@pytest.mark.parametrize(
    "tree",
    [
        '{"dataclass": ["os:system", []]}',
        '{"dataclass": ["engramcka.serialization:pack", []]}',
        '{"dataclass": ["engramcka.errors:ConfigError", []]}',
        '{"error": ["builtins:SystemExit", "x", 0]}',
        '{"error": ["engramcka.results:LayerDiagnostics", "x", 0]}',
        '{"eval": "1"}',
    ],
)
def test_what_arrives_names_no_other_class(tree: str) -> None:
    content = tree.encode()
    with pytest.raises(ValueError, match=r"is nothing that a rank sends|is not of this package"):
        unpack(len(content).to_bytes(8, "little") + content)
