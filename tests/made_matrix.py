"""A matrix of models whose pairs are alike by construction."""

from made_robustness import ridge_map

from engramcka.results import ModelMatrix, PairScore

NAMES = ("moe-0", "engram-0", "moe-1", "engram-1")
LABELS = {
    "moe-0": "MoE",
    "engram-0": "Engram",
    "moe-1": "MoE, seed 1",
    "engram-1": "Engram, seed 1",
}


def scored(height, score="best-match", name="", **fields):
    """The score of a map whose ridge is so high."""
    found = ridge_map(**{"n_documents": 128, "samples": "1234", **fields})
    values = {"similarity": found.similarity * height / 0.9}
    if found.jackknife is not None:
        values["jackknife"] = found.jackknife * height / 0.9
    from dataclasses import replace

    return PairScore.of(replace(found, **values), score, name)


def made_matrix(names=NAMES, labels=LABELS, score="best-match", **fields):
    """Two groups: names that begin alike are alike by 0.8 and more, the others by 0.5 and less."""
    scores = {}
    for i, y in enumerate(names):
        for j in range(i):
            x = names[j]
            same = y.split("-")[0] == x.split("-")[0]
            height = (0.8 if same else 0.5) + 0.004 * (i + j) * (1 if same else -1)
            scores[x, y] = scored(height, score, f"cka/{y}-vs-{x}.of-cka", **fields)
    return ModelMatrix.of(scores, labels)


def many(count, length=0):
    """A matrix of so many models in three groups, with labels of some length."""
    names = [f"{'abc'[one % 3]}-{one}" for one in range(count)]
    labels = {name: f"{name} {'long label ' * length}".strip() for name in names}
    return made_matrix(names, labels)
