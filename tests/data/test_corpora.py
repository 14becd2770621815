"""The corpus is real text, split by document, the same every time."""

from engramcka.config import DataTable
from engramcka.data import Corpus, Document, load_corpus
from engramcka.data.corpora import split


def test_the_standard_library_is_there_and_split_by_file() -> None:
    corpus = load_corpus(DataTable())
    training = {document.id for document in corpus.training}
    validation = {document.id for document in corpus.validation}
    assert not training & validation
    assert {"os.py", "json/decoder.py", "threading.py"} <= training | validation
    assert not any("site-packages" in name or "/test/" in name for name in training | validation)
    assert 0.1 < len(validation) / len(training | validation) < 0.3
    assert corpus.fingerprint == load_corpus(DataTable()).fingerprint


def test_a_document_stays_on_its_side_whatever_else_is_there() -> None:
    documents = [Document(f"{index}.py", "x") for index in range(500)]
    _, validation = split(documents, 0.2)
    _, fewer = split(documents[::2], 0.2)
    assert {document.id for document in fewer} == {
        document.id for document in validation if document in documents[::2]
    }


def test_the_fingerprint_sees_every_change() -> None:
    a, b = Document("a", "text"), Document("b", "more")
    corpora = [
        Corpus((a,), (b,)),
        Corpus((b,), (a,)),
        Corpus((a, b), ()),
        Corpus((Document("a", "texT"),), (b,)),
        Corpus((Document("at", "ext"),), (b,)),
    ]
    assert len({corpus.fingerprint for corpus in corpora}) == len(corpora)
