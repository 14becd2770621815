"""Small stand-ins for what users bring: Few-NERD in its own schema, a tiny Llama."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from engramcka.stores.run import Run

RunConfig = Callable[..., Run]  # a config's text and overrides -> the run that it leaves
COARSE = ["O", "art", "building", "event", "location", "organization", "other", "person", "product"]
FINE = ["O", "art-film", "location-GPE", "organization-company", "person-actor", "person-other"]

SENTENCES = [  # words, fine tags by number in FINE
    ("Grace Kelly lived in Monaco after Rear Window .", [4, 4, 0, 0, 2, 0, 1, 1, 0]),
    ("Mr Paul Müller met Ada Lovelace in Zürich .", [0, 5, 5, 0, 5, 5, 0, 2, 0]),
    ("The Acme Corporation moved from Paris to Rome .", [0, 3, 3, 0, 0, 2, 0, 2, 0]),
    ("Nothing is named here .", [0, 0, 0, 0, 0]),
]
ENTITIES = {  # the spans that those tags mean: sentence -> (text, type)
    0: [
        ("Grace Kelly", "person-actor"),
        ("Monaco", "location-GPE"),
        ("Rear Window", "art-film"),
    ],
    1: [
        ("Paul Müller", "person-other"),
        ("Ada Lovelace", "person-other"),
        ("Zürich", "location-GPE"),
    ],
    2: [
        ("Acme Corporation", "organization-company"),
        ("Paris", "location-GPE"),
        ("Rome", "location-GPE"),
    ],
    3: [],
}


def few_nerd_rows(repeat: int = 1) -> Dataset:
    """The sentences in the schema of the data set on the hub, ``repeat`` times over."""
    rows = [
        {
            "id": str(number),
            "tokens": words.split(),
            "ner_tags": [COARSE.index(FINE[tag].partition("-")[0]) for tag in tags],
            "fine_ner_tags": tags,
        }
        for number, (words, tags) in enumerate(SENTENCES * repeat)
    ]
    features = Features(
        id=Value("string"),
        tokens=List(Value("string")),
        ner_tags=List(ClassLabel(names=COARSE)),
        fine_ner_tags=List(ClassLabel(names=FINE)),
    )
    return Dataset.from_list(rows, features=features)


def write_few_nerd(folder: Path, form: str, repeat: int = 1) -> Path:
    """A folder with splits train and test, as Parquet, Arrow, JSON lines, or save_to_disk's."""
    rows = few_nerd_rows(repeat)
    if form == "disk":
        DatasetDict(train=rows, test=rows).save_to_disk(folder)
        return folder
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        if form == "parquet":
            rows.to_parquet(folder / f"{split}-00000-of-00001.parquet")
        elif form == "jsonl":
            rows.to_json(folder / f"{split}.jsonl")
    return folder


def save_tiny_llama(folder: Path, *, seed: int = 0, vocabulary: int = 330, text: str = "") -> Path:
    """A random Llama of three blocks with a byte-level tokenizer trained on the sentences."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from engramcka.data import Document, train_tokenizer

    training = text or " ".join(words for words, _ in SENTENCES * 20)
    tokenizer = train_tokenizer([Document("a", training)], vocabulary)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=128,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
