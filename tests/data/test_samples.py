"""Entities are found where they stand, drawn once each, and paired by identity."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engramcka.data import Document, common_rows, draw_samples
from engramcka.data.samples import candidates, passage_spans
from engramcka.errors import DataError

CODE = "import os\nx = os.path.join(a, b)  # e.g. here\nself.value = cls.other\nsys.exit(1.5)\n"


def test_entities_are_dotted_names_and_their_spans_hold_them() -> None:
    rows = list(candidates(Document("a.py", CODE), "entity-last", 1000))
    assert [(row[5], row[6]) for row in rows] == [("os.path.join", "call"), ("sys.exit", "call")]
    assert all(CODE[row[1] : row[2]] == row[5] for row in rows)


@given(st.text(alphabet="ab. \n\r\u2028", max_size=200), st.integers(1, 40))
def test_passages_cover_the_text_in_whole_lines(text: str, length: int) -> None:
    spans = list(passage_spans(text, length))
    assert "".join(text[start:stop] for start, stop in spans) == text
    for start, stop in spans:
        assert stop - start <= length or len(text[start:stop].splitlines()) == 1


def test_the_draw_is_without_replacement_in_the_order_of_the_corpus() -> None:
    documents = [Document(f"{n}.py", "os.path\n" * 50) for n in range(4)]
    samples = draw_samples(documents, count=120, passage_length=80, seed=3)
    identities = list(zip(samples.document.tolist(), samples.start.tolist(), strict=True))
    assert len(set(identities)) == 120
    assert identities == sorted(identities)
    again = draw_samples(documents, count=120, passage_length=80, seed=3)
    assert (again.start == samples.start).all()
    other = draw_samples(documents, count=120, passage_length=80, seed=4)
    assert (other.start != samples.start).any()


def test_too_few_entities_is_one_clear_line() -> None:
    with pytest.raises(DataError, match=r"data\.samples: found 9, the text holds 2 entities"):
        draw_samples([Document("a", CODE)], count=9, passage_length=320, seed=0)


@pytest.mark.parametrize("per_document", [None, 20])
@pytest.mark.parametrize("positions", ["entity-last", "mean", "last", "random", "all"])
def test_all_samples_are_every_candidate_in_the_order_of_the_corpus(
    positions: str, per_document: int | None
) -> None:
    documents = [Document(f"{n}.py", CODE * (9 - 2 * n)) for n in (3, 0, 2)]
    every = [row for document in documents for row in candidates(document, positions, 40)]
    drawn = draw_samples(
        documents, count=None, passage_length=40, seed=3, positions=positions,
        per_document=per_document,
    )  # fmt: skip
    rows = [(row.document, row.start, row.end) for row in every]
    found = list(
        zip(*(drawn.columns()[name].tolist() for name in ("document", "start", "end")), strict=True)
    )
    assert found == [row for row in rows if row in set(found)]
    if per_document is None:
        assert found == rows
        return
    most = [min(per_document, sum(row[0] == document.id for row in rows)) for document in documents]
    assert [sum(row[0] == document.id for row in found) for document in documents] == most
    if positions == "all":
        assert drawn.most is not None
        given = [int(drawn.most[drawn.document == document.id].sum()) for document in documents]
        assert given == [per_document] * 3
    else:  # the pool of the cap, from which fewer are drawn
        fewer = draw_samples(
            documents, count=5, passage_length=40, seed=3, positions=positions,
            per_document=per_document,
        )  # fmt: skip
        columns = (fewer.columns()[name].tolist() for name in ("document", "start", "end"))
        assert set(zip(*columns, strict=True)) <= set(found)


def test_all_of_no_samples_is_one_clear_line() -> None:
    with pytest.raises(DataError, match=r"data\.samples: found 'all', the text holds 0 entities"):
        draw_samples([Document("a", "x = 1\n")], count=None, passage_length=320, seed=0)


def test_rows_are_paired_by_identity_in_ys_order() -> None:
    def table(ids: list[int]) -> dict[str, np.ndarray]:
        return {
            "document": np.array(["d"] * len(ids)),
            "start": np.array(ids),
            "end": np.array(ids),
        }

    y_rows, x_rows = common_rows(table([5, 1, 9, 3]), table([3, 5, 7]))
    assert y_rows.tolist() == [0, 3]
    assert x_rows.tolist() == [1, 0]
