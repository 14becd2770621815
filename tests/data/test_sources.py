"""Every source gives the text and the entities that are in it, or one line that says why not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_sources import ENTITIES, SENTENCES, few_nerd_rows, write_few_nerd

from engramcka.config import DataTable
from engramcka.data import DataKeyError, Document, load_corpus
from engramcka.data.documents import entities_of_tags

ROWS = [
    {
        "text": "Grace Kelly in Monaco",
        "entities": [{"start": 0, "end": 11, "type": "person-actor"}],
    },
    {"text": "nothing here", "entities": []},
    {"text": " ", "entities": []},
    {"text": "Größe 🎬 Rome", "entities": [{"start": 8, "end": 12, "type": None}]},
]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def documents(**table: Any) -> tuple[Document, ...]:
    return load_corpus(DataTable(**table)).validation


def spans(document: Document) -> list[tuple[str, str]]:
    assert document.entities is not None
    return [(document.text[e.start : e.end], e.type) for e in document.entities]


@pytest.mark.parametrize("form", ["parquet", "disk"])
def test_few_nerds_runs_of_a_fine_tag_are_its_entities(form: str, tmp_path: Path) -> None:
    folder = write_few_nerd(tmp_path / "data", form)
    found = documents(source="few-nerd", path=str(folder))
    assert [document.text for document in found] == [words for words, _ in SENTENCES]
    assert [document.id for document in found] == [f"test:{n}" for n in range(4)]
    assert {n: spans(document) for n, document in enumerate(found)} == ENTITIES
    assert [e.kind for e in found[0].entities or ()] == ["person", "location", "art"]


def test_few_nerd_as_json_lines_has_tags_without_names(tmp_path: Path) -> None:
    folder = write_few_nerd(tmp_path / "data", "jsonl")
    found = documents(source="few-nerd", path=str(folder), split="train", documents=1)
    assert [document.id for document in found] == ["train:0"]
    assert spans(found[0]) == [("Grace Kelly", "4"), ("Monaco", "2"), ("Rear Window", "1")]


def test_neighbours_of_two_fine_tags_are_two_entities() -> None:
    words, tags = ["a", "bc", "d", "e"], ["x-1", "x-2", "x-2", "O"]
    found = list(entities_of_tags(words, tags, ["x"] * 4))
    assert [tuple(entity) for entity in found] == [(0, 1, "x-1", "x"), (2, 6, "x-2", "x")]


def test_a_split_may_be_a_slice(tmp_path: Path) -> None:
    folder = write_few_nerd(tmp_path / "data", "parquet")
    found = documents(source="few-nerd", path=str(folder), split="test[1:3]")
    assert [document.text for document in found] == [words for words, _ in SENTENCES[1:3]]


def write_rows(folder: Path, source: str) -> str:
    if source == "jsonl":
        path = folder / "rows.jsonl"
        path.write_text("\n".join(json.dumps(row) for row in ROWS))
    elif source == "parquet":
        path = folder / "rows.parquet"
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        path = folder / "data"
        path.mkdir()
        pq.write_table(pa.Table.from_pylist(ROWS), path / "train.parquet")
    return str(path)


@pytest.mark.parametrize("source", ["jsonl", "parquet", "hf"])
def test_rows_with_character_spans(source: str, tmp_path: Path) -> None:
    table_path = write_rows(tmp_path, source)
    found = documents(source=source, path=table_path)
    assert [document.text for document in found] == [ROWS[n]["text"] for n in (0, 1, 3)]
    assert [spans(document) for document in found] == [
        [("Grace Kelly", "person-actor")],
        [],
        [("Rome", "")],
    ]
    plain = documents(source=source, path=table_path, positions="last")
    assert [document.entities for document in plain] == [(), (), ()]


def test_spans_as_columns_are_spans_too(tmp_path: Path) -> None:
    row = {
        "text": "Grace met Ada",
        "entities": {"start": [10, 0], "end": [13, 5], "type": ["b", "a"]},
    }
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    (found,) = documents(source="jsonl", path=str(tmp_path / "a.jsonl"))
    assert spans(found) == [("Grace", "a"), ("Ada", "b")]
    row["entities"]["end"] = [13]
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    assert "a list of {start, end, type}" in line_of(source="jsonl", path=f"{tmp_path}/a.jsonl")[1]


def test_text_files_by_folder_and_by_glob_keep_their_ids(tmp_path: Path) -> None:
    for name in ("a.txt", "sub/b.txt", "sub/c.md", "sub/d.bin"):
        (tmp_path / "t" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "t" / name).write_text(f"text of {name}\n")
    found = documents(source="text", path=str(tmp_path / "t"), positions="last")
    assert [document.id for document in found] == ["a.txt", "sub/b.txt", "sub/c.md"]
    found = documents(source="text", path=f"{tmp_path}/t/**/*.txt", positions="last")
    assert [document.id for document in found] == ["a.txt", "sub/b.txt"]
    assert found[1].text == "text of sub/b.txt\n"


def line_of(**table: Any) -> tuple[str, str]:
    with pytest.raises(DataKeyError) as error:
        load_corpus(DataTable(**table))
    assert "\n" not in str(error.value)
    return error.value.key, str(error.value)


def bad_row(tmp_path: Path, row: Any) -> str:
    path = tmp_path / "bad.jsonl"
    path.write_text(f"{json.dumps(ROWS[1])}\n{row if isinstance(row, str) else json.dumps(row)}\n")
    return str(path)


@pytest.mark.parametrize(
    ("row", "key", "says"),
    [
        ("{", "path", "bad.jsonl, line 2: no JSON"),
        ([1], "path", "line 2: no JSON object"),
        ({"body": "x"}, "text_column", "no column 'text'; it has: 'body'"),
        ({"text": 3, "entities": []}, "text_column", "line 2, holds int in its place"),
        ({"text": "x"}, "entities_column", "no column 'entities'; it has: 'text'"),
        ({"text": "x", "entities": "y"}, "entities_column", "a list of {start, end, type}"),
        ({"text": "x", "entities": [{"start": 0}]}, "entities_column", "start, end and type"),
        ({"text": "x", "entities": [{"start": 0, "end": 2}]}, "entities_column", "end <= 1, the"),
        ({"text": "x", "entities": [{"start": True, "end": 1}]}, "entities_column", "0 <= start"),
    ],
)
def test_a_bad_row_is_one_line_with_its_number(
    row: Any, key: str, says: str, tmp_path: Path
) -> None:
    found = line_of(source="jsonl", path=bad_row(tmp_path, row))
    assert found[0] == key
    assert says in found[1]


def test_what_is_not_there_is_one_line(tmp_path: Path) -> None:
    folder = str(write_few_nerd(tmp_path / "data", "parquet"))
    key, text = line_of(source="few-nerd", path=folder, split="tset")
    assert (key, "did you mean 'test'? allowed: 'train', 'test'" in text) == ("split", True)
    key, text = line_of(source="few-nerd", path=folder, name="supervized")
    assert (key, "supervized" in text) == ("name", True)
    key, text = line_of(source="hf", path=folder, split="test")
    assert key == "text_column"
    assert "no column 'text'; it has: 'id', 'tokens'" in text
    assert line_of(source="few-nerd", path=str(tmp_path / "nowhere"))[0] == "path"
    assert line_of(source="jsonl", path=str(tmp_path / "nowhere"))[0] == "path"
    (tmp_path / "empty.txt").write_text("\n")
    key, text = line_of(source="text", path=str(tmp_path / "empty.txt"), positions="last")
    assert (key, "not one document" in text) == ("path", True)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    key, text = line_of(source="parquet", path=str(tmp_path / "broken.parquet"))
    assert (key, "cannot be read" in text) == ("path", True)
    rows = few_nerd_rows().remove_columns("fine_ner_tags")
    rows.to_parquet(tmp_path / "coarse" / "test.parquet")
    key, text = line_of(source="few-nerd", path=str(tmp_path / "coarse"))
    assert (key, "no column 'fine_ner_tags'" in text) == ("path", True)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"source": "jsonl"}, "needs a path"),
        ({"path": "x"}, "path = 'x' means nothing for source = 'python-stdlib'"),
        ({"source": "text", "path": "x"}, "positions = 'entity-last' needs entities"),
        ({"source": "text", "path": "x", "split": "a", "positions": "last"}, "split = 'a' means"),
    ],
)
def test_keys_that_do_not_go_together(table: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        DataTable(**table)


def test_a_sentence_without_tags_is_one_line(tmp_path: Path) -> None:
    folder = write_few_nerd(tmp_path / "data", "jsonl")
    file = next(folder.rglob("*test*.jsonl"))
    first, *rest = file.read_text().splitlines()
    broken = {**json.loads(first), "fine_ner_tags": None}
    file.write_text("\n".join([json.dumps(broken), *rest]))
    key, said = line_of(source="few-nerd", path=str(folder))
    assert key == "path"
    assert "row 0, is not of Few-NERD's schema" in said
