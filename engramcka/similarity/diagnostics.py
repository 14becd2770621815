"""What each layer looks like, and what a reader must know before trusting a map.

Diagnostics say whether a similarity is about all of a layer or about one dimension or a few
samples; warnings are one sentence each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from engramcka.results import Float, LayerDiagnostics, SimilarityMap
from engramcka.similarity.estimators import Estimate
from engramcka.similarity.gram_tiles import Moments
from engramcka.similarity.hsic import MAX_CONDITION, undefined
from engramcka.similarity.massive import TOP
from engramcka.similarity.prepare import Prepared

DOMINANT = 0.5  # share of the variance, or of HSIC, from which one thing is worth a warning
_STANDS_OUT = 2.0  # times what the largest share of a layer alike in all directions could be
_BIAS = 0.05  # effective rank over samples from which the biased estimator's bias is
_SATURATED = 0.99  # from here a similarity counts as one, where its interval does
_MANY = 0.25  # share of the cells from which a map is saturated


def layer_diagnostics(
    found: Moments,
    y: Prepared,
    x: Prepared,
    squared: tuple[Float, Float] | None,
    massive: Float,
    top_share: Float,
) -> tuple[LayerDiagnostics, LayerDiagnostics]:
    """Diagnostics of y's and of x's layers.

    Args:
        found: moments of all samples.
        y: one model.
        x: the other.
        squared: (y layers,) and (x layers,) estimates of tr(C^2), C the covariance of the
            features: linear HSIC of a layer with itself. None with another kernel; the effective
            rank is then NaN.
        massive: (layers,) samples that are massive, y's first.
        top_share: (layers,) share of HSIC on the farthest 1 % of the samples.
    """
    shares = slice(0, len(y)), slice(len(y), None)
    columns = np.split(found.columns, np.cumsum(y.widths + x.widths)[:-1])
    parts = []
    for number, (side, share) in enumerate(zip((y, x), shares, strict=True)):
        trace = np.array([row.sum() for row in columns[share]])
        largest = np.array([row.max() for row in columns[share]])
        width = np.array(side.widths, dtype=np.float64)
        rank = np.full_like(trace, np.nan)
        with np.errstate(invalid="ignore", divide="ignore"):
            if squared is not None:
                rank = np.clip((trace / found.degrees) ** 2 / squared[number], 1.0, width)
            parts.append(
                LayerDiagnostics(
                    top_dimension_share=largest / trace,
                    top_component_share=np.maximum(found.along[share], largest) / trace,
                    effective_rank=np.where(trace > 0, rank, np.nan),
                    nonfinite_share=np.array(side.nonfinite_share),
                    width=width,
                    massive_samples=massive[share],
                    top_samples_share=top_share[share],
                    dropped=tuple(side.dropped) if any(side.dropped) else (),
                )
            )
    return parts[0], parts[1]


def layer_warnings(
    sides: Sequence[Prepared],
    diagnostics: Sequence[LayerDiagnostics],
    estimate: Estimate,
    options: Mapping[str, str],
) -> list[str]:
    """What is wrong with single layers, and what to compare that is not done yet.

    Args:
        sides: y and x.
        diagnostics: of y's layers and of x's.
        estimate: what the map was made from.
        options: `estimator`, `massive`, `normalize` and `standardize` as they were asked for.
    """
    messages = []
    for side, found, line, (constant, ill) in zip(
        sides, diagnostics, ("row", "column"), undefined(estimate.whole), strict=True
    ):
        if constant.any():
            messages += _constant(side, constant, line, estimate)
        if ill.any():
            messages.append(
                f"{named(side, ill)} ill conditioned (the sums cancel past 1 in "
                f"{MAX_CONDITION:.0e}, even in float64): {line} NaN"
            )
        with np.errstate(invalid="ignore"):
            few = (found.top_samples_share >= DOMINANT) & ~constant
            few &= side.n_samples * TOP >= 1  # one of fewer samples is more than 1 %
            least = _STANDS_OUT * _isotropic(found.width, side.n_samples)
            dimension = _on_one_dimension(side, found) & ~few & ~constant
            on_one = _share_on_one(found, side.n_samples)
            direction = (on_one >= DOMINANT) & (found.top_component_share >= least)
            direction &= ~few & ~dimension & ~constant
        if few.any():
            messages.append(
                f"{_resting(side, few)} by {found.top_samples_share[few].max():.0%} on 1 % of the "
                f"samples{_compare(options, massive='drop', normalize='rms')}"
            )
        if dimension.any():
            messages.append(_dominated(side, dimension, options))
        if direction.any():
            messages.append(
                f"{_resting(side, direction)} by {on_one[direction].max():.0%} on one direction"
                f"{_compare(options, normalize='rms', standardize='zscore')}"
            )
        if options["estimator"] == "biased":
            messages += _bias(side, found)
    return messages


def dimension_warnings(
    sides: Sequence[Prepared], diagnostics: Sequence[LayerDiagnostics], options: Mapping[str, str]
) -> list[str]:
    """Which layers are dominated by one dimension, for measures that know no HSIC.

    Args:
        sides: y and x.
        diagnostics: of y's layers and of x's.
        options: `massive`, `normalize` and `standardize` as they were asked for.
    """
    found = [
        (side, _on_one_dimension(side, one)) for side, one in zip(sides, diagnostics, strict=True)
    ]
    return [_dominated(side, which, options) for side, which in found if which.any()]


def map_warnings(
    cka: SimilarityMap, options: Mapping[str, str], names: Sequence[str] | None
) -> list[str]:
    """What is wrong with the map as a whole.

    Args:
        cka: the map.
        options: what it was made with.
        names: what to call each sample; None if nothing is known of them.
    """
    messages = []
    if cka.n_massive:
        named = _most_common([names[row] for row in cka.massive_samples]) if names else ""
        what = 'massive = "drop" leaves them out of both models'
        if options["massive"] == "drop":
            what = f"they stand out among what is left without {cka.n_massive_dropped:,} others"
        messages.append(
            f"{cka.n_massive:,} of {cka.n_samples:,} samples {'are' if cka.n_massive > 1 else 'is'}"
            f" massive{named}: over 10 times as far from the centre of {_massive_layers(cka)} as "
            f"the median sample; {what}"
        )
    if cka.n_dropped:
        messages.append(
            f"{_count(cka.n_dropped)} dropped from both models: a value was NaN or infinite"
        )
    if cka.n_massive_dropped:
        messages.append(f"{_count(cka.n_massive_dropped)} dropped from both models: massive")
    if cka.jackknife is None:
        messages.append("no intervals: too few samples, documents or batches to leave some out")
    return messages + _saturation(cka) + _within_documents(cka)


def _count(samples: int) -> str:
    return f"{samples:,} sample{'s' * (samples != 1)}"


def _compare(options: Mapping[str, str], **ways: str) -> str:
    """ ": compare this or that" of the options that are not on, "" if all are."""
    open_ = [f'{name} = "{value}"' for name, value in ways.items() if options[name] != value]
    return f": compare {' or '.join(open_)}" if open_ else ""


def _on_one_dimension(side: Prepared, found: LayerDiagnostics) -> npt.NDArray[np.bool_]:
    """(layers,) whether one dimension holds most of the variance, more than it could by chance."""
    least = _STANDS_OUT * _isotropic(found.width, side.n_samples)
    with np.errstate(invalid="ignore"):
        return np.asarray(found.top_dimension_share >= np.maximum(DOMINANT, least))


def _dominated(side: Prepared, which: npt.NDArray[np.bool_], options: Mapping[str, str]) -> str:
    return (
        f"{named(side, which)} dominated by one dimension, which holds over half of the variance: "
        f"similarity is mostly about it{_compare(options, standardize='drop-massive')}"
    )


def _isotropic(width: Float, n: int) -> Float:
    """(layers,) share of the variance in the first component of layers alike in all directions.

    The upper edge (1 + sqrt(width / n))^2 of their sample spectrum (Marchenko and Pastur 1967).
    """
    edge: Float = (1 + np.sqrt(width / n)) ** 2 / width
    return edge


def _share_on_one(found: LayerDiagnostics, n: int) -> Float:
    """(layers,) lambda_1^2 / sum lambda^2 of the samples.

    The rank is (sum lambda)^2 / sum lambda^2 of the population; samples add (sum lambda)^2 / n.
    """
    share: Float = found.top_component_share**2 / (1 / found.effective_rank + 1 / n)
    return np.minimum(share, 1.0)


def _saturation(cka: SimilarityMap) -> list[str]:
    top = cka.similarity if cka.ci_high is None else np.maximum(cka.similarity, cka.ci_high)
    with np.errstate(invalid="ignore"):
        full = np.isfinite(cka.similarity) & (top >= _SATURATED) & (cka.similarity >= 0.95)
    off = cka.similarity.size - min(cka.similarity.shape)
    share = full.mean()
    # The diagonal of a map of a model with itself is 1, and rightly so.
    if off < 1 or full.sum() - min(cka.similarity.shape) < _MANY * off:
        return []
    messages = (
        f"saturated: {share:.0%} of the cells are {_SATURATED} or more, or may be, so that layers "
        "can hardly be told apart"
    )
    if cka.normalize != "rms":
        return [f'{messages}; compare normalize = "rms"']
    return [
        messages if cka.standardize == "zscore" else f'{messages}; compare standardize = "zscore"'
    ]


def _within_documents(cka: SimilarityMap) -> list[str]:
    if cka.all_pairs is None or cka.ci_high is None:
        return []
    change = cka.all_pairs - cka.similarity
    with np.errstate(invalid="ignore"):
        more = np.abs(change) > cka.ci_high - cka.similarity
    if not more.any():
        return []
    largest = change[more][np.argmax(np.abs(change[more]))]
    return [
        f"pairs of samples of one document ({cka.pairs_within:.1%} of all) do not count; they "
        f"would change {more.sum()} of {more.size} cells by more than their interval, by up to "
        f'{largest:+.2f} (pairs = "all")'
    ]


def _massive_layers(cka: SimilarityMap) -> str:
    parts = []
    for side, found, numbers in (
        ("y", cka.y_diagnostics, cka.y_layers),
        ("x", cka.x_diagnostics, cka.x_layers),
    ):
        if found is not None and (there := np.flatnonzero(found.massive_samples > 0)).size:
            layers = [numbers[index] for index in there]
            parts.append(f"{side} layer{'s' * (len(layers) > 1)} {_ranges(layers)}")
    return " and ".join(parts)


def _ranges(numbers: Sequence[int]) -> str:
    """ "3, 5 to 9"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{r[0]} to {r[-1]}" if len(r) > 2 else ", ".join(map(str, r)) for r in runs)


def _most_common(names: Sequence[str]) -> str:
    """ " (first of a passage, ' ')": the three that most of them have."""
    return f" ({', '.join(name for name, _ in Counter(names).most_common(3))})" if names else ""


def _constant(
    side: Prepared, constant: npt.NDArray[np.bool_], line: str, estimate: Estimate
) -> list[str]:
    """Of layers that are constant over all samples, and of those that are so in each batch."""
    everything = np.arange(side.n_samples)
    whole = constant & (
        np.array([not c or side.constant(i, everything) for i, c in enumerate(constant)])
    )
    messages = (
        [f"{named(side, whole)} constant over the samples: {line} NaN"] if whole.any() else []
    )
    within = constant & ~whole
    if within.any():
        messages.append(
            f"{named(side, within)} constant within each of {estimate.batches} batches: {line} "
            'NaN; batches = "random" or estimator = "debiased" compares it'
        )
    return messages


def _resting(side: Prepared, which: npt.NDArray[np.bool_]) -> str:
    """ "y layer 3 rests", or "y layers 1, 2, 5 rest"."""
    numbers = [side.numbers[index] for index in np.flatnonzero(which)]
    plural = len(numbers) > 1
    return f"{side.side} layer{'s' * plural} {_ranges(numbers)} {'rest' if plural else 'rests'}"


def _bias(side: Prepared, found: LayerDiagnostics) -> list[str]:
    with np.errstate(invalid="ignore"):
        too_few = found.effective_rank > _BIAS * side.n_samples
    if not too_few.any():
        return []
    return [
        f"{named(side, too_few)} of effective rank up to {found.effective_rank[too_few].max():.0f}"
        f" with {side.n_samples} samples: biased similarities are too high; "
        'use estimator = "debiased"'
    ]


def named(side: Prepared, which: npt.NDArray[np.bool_]) -> str:
    """ "y layer 3 is", or "y layers 1, 2, 5 are"."""
    numbers = [side.numbers[index] for index in np.flatnonzero(which)]
    plural = len(numbers) > 1
    return f"{side.side} layer{'s' * plural} {_ranges(numbers)} {'are' if plural else 'is'}"
