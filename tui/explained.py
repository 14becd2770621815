"""A map in words: what its estimate is over, what its numbers mean, and why its warnings matter."""

from __future__ import annotations

import numpy as np

from engramcka.measures import MEASURES
from engramcka.plain_text import clean
from engramcka.results import CkaMap, SimilarityMap
from engramcka.tui import readout

Paragraph = tuple[str, str]  # heading and sentences

_ESTIMATORS = {
    "minibatch": "HSIC is estimated without bias in each batch and summed over batches before the "
    "quotient is taken (Nguyen et al. 2021).",
    "debiased": "HSIC is estimated without bias over all samples at once (Song et al. 2012).",
    "biased": "HSIC is estimated with bias (Gretton et al. 2005), as Kornblith et al. 2019 do: of "
    "few samples and many dimensions similarities are too high.",
}
_OVER = {
    "documents": "leave out whole documents in turn: they say what other documents would give",
    "samples": "leave out samples in turn, as if each were drawn by itself",
    "batches": "leave out batches in turn",
}
WHY = (
    (
        "massive",
        "A few samples far from all others, often first tokens of passages, take most of HSIC "
        "in both models: the similarity is then about those tokens, and is high whatever the "
        "rest does. enter on a cell lists them.",
    ),
    (
        "on one direction",
        "Where one direction holds nearly all of the variance, any two layers that share it "
        "are alike to nearly 1, and what differs in the others is not seen.",
    ),
    (
        "one dimension",
        "One dimension with most of the variance decides the similarity by itself; in "
        "language models it is often the same one in all layers.",
    ),
    (
        "of the samples",
        "The similarity rests on few samples: another draw of text may change it more than "
        "the interval says. enter on a cell lists them.",
    ),
    (
        "saturated",
        "Cells that are all 1 within their intervals cannot be told apart, and an alignment "
        "read off them is a guess.",
    ),
    (
        "biased similarities",
        "With fewer samples than the layers have directions, the biased estimate is high for "
        "any two layers, related or not.",
    ),
    (
        "constant",
        "A layer that does not vary has no similarity with anything; its cells are grey.",
    ),
    (
        "ill conditioned",
        "The sums cancel so far that the quotient would be noise; its cells are grey.",
    ),
    (
        "no intervals",
        "Without intervals it is not known how much of a difference between cells is chance.",
    ),
    (
        "no p values",
        "Without shuffles it is not known how high cells are that mean nothing.",
    ),
    (
        "pairs of samples of one document",
        "Samples of one document are alike because the text is, in any model: counted, they "
        "would raise the similarity of layers that have nothing in common.",
    ),
    (
        "dropped",
        "The map is about the samples that are left, and says nothing of the others.",
    ),
)
"""What a warning has in it, and why it matters; the first that fits holds."""


def why(warning: str) -> str:
    """Why a warning matters; "" for one that says it itself."""
    return next((reason for words, reason in WHY if words in warning), "")


def made_of(cka: SimilarityMap) -> str:
    """What the estimate is over, and how it is made."""
    parts = []
    if cka.n_samples is not None:
        over = f"Estimated over {cka.n_samples:,} samples (tokens)"
        if cka.n_documents is not None:
            over += f" of {count_of(cka.n_documents, 'document')}"
        where = f" where {clean(cka.where)}" if cka.where else ""
        parts.append(f"{over}{where}.")
    if cka.left_out:
        parts.append(f"Left out: {clean(cka.left_out)}.")
    if isinstance(cka, CkaMap) and cka.n_batches and cka.batch_size:
        how = "drawn at random" if cka.batches == "random" else "of neighbours"
        batches = f"{cka.n_batches:,} batch{'es' * (cka.n_batches != 1)}"
        parts.append(f"{batches}, {how}, of at most {cka.batch_size:,} samples.")
    if isinstance(cka, CkaMap):
        parts.append(_ESTIMATORS.get(cka.estimator, "How it was estimated is not known."))
    elif cka.measure in MEASURES:
        words = MEASURES[cka.measure].words
        parts.append(f"{words[0].upper()}{words[1:]}.")
    if cka.pairs == "across-documents" and cka.n_documents:
        parts.append("Only pairs of samples of different documents count.")
    if cka.interval_over in _OVER:
        parts.append(f"95 % intervals {_OVER[cka.interval_over]}.")
    return " ".join(parts)


def count_of(number: int, noun: str) -> str:
    """A number with its thousands apart, and its noun."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def cell_in_words(cka: SimilarityMap, row: int, column: int) -> str:
    """What the cell under the cursor says."""
    value = float(cka.similarity[row, column])
    if value != value:
        return "The cell has no estimate."
    names = (
        f"layer {cka.y_layers[row]} of {clean(cka.y_label)}",
        (f"layer {cka.x_layers[column]} of {clean(cka.x_label)}"),
    )
    text = f"{names[0]} and {names[1]}: {cka.title} {readout.decimals(value)}"
    if interval := readout.interval(cka, row, column):
        text += f", 95 % interval {interval}"
    if isinstance(cka, CkaMap):
        text += ". 1 means the same up to rotation and scale, 0 nothing in common that is linear."
    elif cka.measure in MEASURES:
        known = MEASURES[cka.measure]
        text += f". It goes from {known.range}; unchanged by {known.invariant}. Bias with few "
        text += f"samples: {known.small_n}."
    else:
        text += "."
    if null := readout.null(cka, row, column):
        text += f" With samples shuffled it is {null.replace(' p ', ', p value ')}."
    return text[0].upper() + text[1:]


def dominating(cka: SimilarityMap, row: int, column: int) -> str:
    """Which samples and directions the cell rests on, as far as the result knows."""
    parts = []
    sides = (("row", cka.y_diagnostics, row), ("column", cka.x_diagnostics, column))
    for what, found, index in sides:
        if found is None:
            continue
        share, massive = found.top_samples_share[index], found.massive_samples[index]
        if np.isfinite(share):
            parts.append(
                f"The farthest 1 % of the samples hold {share:.0%} of the {what}'s own HSIC."
            )
        if massive > 0:
            parts.append(f"{count_of(int(massive), 'sample')} of the {what} massive.")
        component = found.top_component_share[index]
        if np.isfinite(component):
            parts.append(
                f"The {what}'s first direction holds {component:.0%} of its variance, of "
                f"effectively {found.effective_rank[index]:.3g}."
            )
    if cka.n_massive:
        parts.append(f"{count_of(cka.n_massive, 'sample')} massive in some layer of either model.")
    return " ".join(parts) or "The result does not say."


def about(cka: SimilarityMap, row: int, column: int) -> list[Paragraph]:
    """The whole page about a map and the cell under the cursor."""
    page = [
        ("The cell", cell_in_words(cka, row, column)),
        ("What it is over", made_of(cka)),
        ("What dominates it", dominating(cka, row, column)),
    ]
    for warning in cka.warnings:
        page.append(("Warning", " ".join(filter(None, (f"{clean(warning)}.", why(warning))))))
    return page
