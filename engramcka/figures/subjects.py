"""What can be drawn from a run: every result, curves of all models in one, series, and the paper's.

A subject has a name as on the command line (``cka/NAME``, ``lens``, ``series/NAME``, ``paper``) and
says which stored results it needs. Drawing and tables import matplotlib when they are asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engramcka.errors import ConfigError, StoreError
from engramcka.results import SimilarityMap
from engramcka.results.kinds import KINDS, MAPS
from engramcka.stores import Run, layout, nodes, open_run
from engramcka.stores.results import read_attributes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from engramcka.figures import Style

_COMPOSED = ("lens", "cka", "sweep")  # what the paper's figure is made of
_MAPS_OF_PAPER = 3  # in it at most
_MOST_MAPS = 30  # in a figure that a run draws by itself


@dataclass(frozen=True)
class Subject:
    """Something to draw, and the stored results it is made of."""

    name: str
    sources: tuple[tuple[str, str], ...]  # (kind, name) of each

    @property
    def kind(self) -> str:
        """cka, lens, .., text, series, maps or paper."""
        return self.name.partition("/")[0]

    @property
    def is_wide(self) -> bool:
        """Whether it has several panels, for which a column is too narrow."""
        return self.kind in ("maps", "baseline", "paper")

    @property
    def stem(self) -> str:
        """Its file's name without extension."""
        return self.name.replace("/", "-")

    def files(self, run: Path) -> list[Path]:
        """A file of each source, which is as old as the source."""
        return [run / layout.RESULTS / kind / name / nodes.ZARR_JSON for kind, name in self.sources]


@dataclass(frozen=True)
class DrawOptions:
    """How everything is drawn; each drawing takes of the options what it knows.

    ``map_interval`` says of maps alone whether their alignment's interval is drawn; curves have
    bands in any case.
    """

    style: Style | str = "plain"
    options: Mapping[str, Any] = field(default_factory=dict)


def subjects(run: Run) -> dict[str, Subject]:
    """All there is to draw in a run, by name."""
    found = [
        Subject(f"{kind}/{name}", ((kind, name),)) for kind in KINDS for name in run.results(kind)
    ]
    for kind in (kind.name for kind in KINDS.values() if kind.together):
        names = _in_config_order(run, run.results(kind))
        if names:
            found.append(Subject(kind, tuple((kind, name) for name in names)))
    for series, maps in run.series.items():
        found.append(Subject(f"series/{series}", tuple(maps)))
    for name in run.gates:
        if _has_texts(run, name):
            found.append(Subject(f"text/{name}", (("gates", name),)))
    of_paper = _paper_sources(run)
    of_cka = tuple(source for source in of_paper if source[0] == "cka")
    if len(of_cka) > 1:
        found.append(Subject("maps", _by_models(run, of_cka)))
    if len(of_paper) > 1:
        found.append(Subject("paper", of_paper))
    return {subject.name: subject for subject in found}


def worth_drawing(run: Run) -> list[Subject]:
    """What a run draws by itself: each result once, curves together, maps of a series as one, of
    robustness what its maps say together.

    The composed figure is among them where it has room for all of its kinds; where there are too
    many maps for it, they stand together in a figure of their own.
    """
    elsewhere = _of_several(run)
    kept = []
    for subject in subjects(run).values():
        kinds = [kind for kind, _ in subject.sources]
        if subject.kind == "paper":
            fits = kinds.count("cka") <= _MAPS_OF_PAPER and kinds.count("sweep") <= 1
            wanted = fits and len(_directions(run)) <= 1
        elif subject.kind == "maps":
            wanted = _MAPS_OF_PAPER < len(kinds) <= _MOST_MAPS
        elif subject.kind in KINDS and KINDS[subject.kind].is_one_figure:
            wanted = "/" not in subject.name
        elif subject.kind in MAPS:
            wanted = subject.sources[0] not in elsewhere
        else:
            wanted = "/" in subject.name
        if wanted:
            kept.append(subject)
    return kept


def choose(run: Run, what: str | None) -> Subject:
    """The subject of that name; several names with commas are composed as the paper's figure is,
    and more maps than that has room for stand together.

    Args:
        run: the run.
        what: None takes the only result there is.

    Raises:
        ConfigError: there is no such thing, or what is composed has no place in that figure.
    """
    there = subjects(run)
    if what is None:
        single = [name for name in there if "/" in name and not name.startswith("text/")]
        if len(single) != 1:
            raise _no_subject(run, "which result? name it with --what", there)
        return there[single[0]]
    parts = [part.strip() for part in what.split(",")]
    for part in parts:
        if part not in there:
            raise _no_subject(run, f"no result {part!r}", there)
    if len(parts) == 1:
        return there[parts[0]]
    sources = tuple(dict.fromkeys(source for part in parts for source in there[part].sources))
    for kind, name in sources:
        if kind not in _COMPOSED:
            raise ConfigError(
                f"{kind}/{name}: only lens, cka and sweep results are composed into one figure"
            )
    only_maps = {kind for kind, _ in sources} == {"cka"}
    return Subject("maps" if only_maps and len(sources) > _MAPS_OF_PAPER else "paper", sources)


def read(run: Run, subject: Subject) -> list[Any]:
    """The results that a subject is made of."""
    return [run.results(kind)[name] for kind, name in subject.sources]


def draw(run: Run, subject: Subject, how: DrawOptions) -> Figure:
    """The figure of a subject.

    Raises:
        EngramckaError: a result cannot be read, or its drawing refuses it.
    """
    from engramcka import figures

    results = _shown(read(run, subject), how)
    if subject.kind == "paper":
        return _compose(subject, results, how)
    if subject.kind == "series":
        options = _known({"first_layer", "palette", "k"}, how)
        return figures.draw_form("series", results, how.style, **options)
    if subject.kind == "maps":
        options = _known({"first_layer", "palette", "k"}, how)
        return figures.draw_form("grid", results, how.style, **options)
    if subject.kind == "text":
        options = _known({"first_layer"}, how)
        return figures.draw_form("text", results[0], how.style, **options)
    known = _known(figures.known_options(subject.sources[0][0]), how)
    return figures.draw_form("result", results, how.style, **known)


def animate(run: Run, subject: Subject, how: DrawOptions, path: Path, seconds: float = 0.5) -> None:
    """Write a series as a moving picture, with the loss of its models beside it.

    Raises:
        ConfigError: the subject is no series, or the file's name asks for no moving picture.
        EngramckaError: it cannot be made or written.
    """
    from engramcka import figures

    if subject.kind != "series":
        raise ConfigError(f"{subject.name}: only series/NAME is written as a moving picture")
    maps = _shown(read(run, subject), how)
    trained = [run.training[name] for name in _in_config_order(run, run.training)]
    curves = figures.curves_beside(maps, trained)
    options = _known({"first_layer", "palette", "k"}, how)
    figures.save_animation(maps, path, how.style, training=curves, seconds=seconds, **options)


def caption(run: Run, subject: Subject, how: DrawOptions) -> str:
    """What a reader must know to read the figure of a subject."""
    from engramcka import figures

    results = _shown(read(run, subject), how)
    if subject.kind == "series":
        return figures.series_caption(results, **_known({"first_layer", "k"}, how))
    if subject.kind == "maps":
        return figures.map_grid_caption(results, **_known({"first_layer", "k"}, how))
    if subject.kind == "text":
        return figures.gate_text_caption(results[0], how.style)
    of = _by_kind(subject, results)
    parts = [
        part
        for kind in dict.fromkeys((*_COMPOSED, *of))
        for part in figures.captions(kind, of.get(kind, []), how.options)
    ]
    if len(parts) == 1:
        return parts[0]
    return " ".join(f"({chr(ord('a') + index)}) {part}" for index, part in enumerate(parts))


def table(run: Run, subject: Subject, form: str, k: int = 5) -> str:
    """The numbers of a subject as CSV or as a LaTeX table.

    Args:
        run: the run.
        subject: anything but the composed figure.
        form: ``csv`` or ``tex``.
        k: rows the soft alignment averages.

    Raises:
        ConfigError: the subject has no such table.
    """
    from engramcka import figures

    if subject.kind == "paper":
        raise ConfigError("a table holds one kind of result; name it with --what")
    results = read(run, subject)
    if subject.kind == "maps" and form == "csv":
        named = zip(subject.sources, results, strict=True)
        return figures.rows_to_csv(
            {"map": name, "y": cka.y_label, "x": cka.x_label, **row}
            for (_, name), cka in named
            for row in cka.rows()
        )
    if subject.kind == "text":
        if form != "csv":
            raise ConfigError(f"{subject.name}: gates of a text are written as .csv")
        return figures.rows_to_csv(results[0].text_rows())
    return figures.to_csv(results) if form == "csv" else figures.to_latex(results, k=k)


def _shown(results: Sequence[Any], how: DrawOptions) -> list[Any]:
    """The results as they are drawn and described: maps without a jackknife have no interval."""
    if how.options.get("map_interval", True):
        return list(results)
    return [
        replace(result, jackknife=None) if isinstance(result, SimilarityMap) else result
        for result in results
    ]


def _known(names: Any, how: DrawOptions) -> dict[str, Any]:
    return {name: value for name, value in how.options.items() if name in names}


def _by_kind(subject: Subject, results: Sequence[Any]) -> dict[str, list[Any]]:
    of: dict[str, list[Any]] = {}
    for (kind, _), result in zip(subject.sources, results, strict=True):
        of.setdefault(kind, []).append(result)
    return of


def _compose(subject: Subject, results: Sequence[Any], how: DrawOptions) -> Figure:
    from engramcka import figures

    of = {**{kind: [] for kind in _COMPOSED}, **_by_kind(subject, results)}
    if len(of["sweep"]) > 1:
        names = ", ".join(f"sweep/{name}" for kind, name in subject.sources if kind == "sweep")
        raise ConfigError(f"one sweep stands in this figure, found {names}; name one with --what")
    sweep = of["sweep"][0] if of["sweep"] else None
    options = _known({"first_layer", "log", "palette", "k"}, how)
    return figures.paper_figure(of["cka"], sweep, how.style, lens=of["lens"], **options)


def _by_models(run: Run, maps: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Maps by their models' order in the config, y before x; those of other models after them."""
    try:
        models = run.config.get("models", {})
    except StoreError:
        models = {}
    labels = [table.get("label") or name for name, table in models.items()]

    def place(source: tuple[str, str]) -> list[int]:
        try:
            found = read_attributes(run.path / layout.RESULTS, *source)
        except StoreError:  # whoever draws it hears of it
            found = {}
        sides = [found.get("y_label"), found.get("x_label")]
        return [labels.index(side) if side in labels else len(labels) for side in sides]

    return tuple(sorted(maps, key=place))


def _paper_sources(run: Run) -> tuple[tuple[str, str], ...]:
    """Everything of the paper's kinds but maps that another result is made of."""
    elsewhere = _of_several(run)
    return tuple(
        (kind, name)
        for kind in _COMPOSED
        for name in _in_config_order(run, run.results(kind))
        if (kind, name) not in elsewhere
    )


def _of_several(run: Run) -> set[tuple[str, str]]:
    """The maps that are drawn as one with others: those of series, and of robustness."""
    return {source for maps in run.series.values() for source in maps} | run.parts


def _in_config_order(run: Run, names: Iterable[str]) -> list[str]:
    """Results named after models in the config's order; others after them, by name."""
    try:
        models = list(run.config.get("models", {}))
    except StoreError:  # a run of imported or published results has no config
        models = []
    return sorted(names, key=lambda name: models.index(name) if name in models else len(models))


def _directions(run: Run) -> set[str]:
    """Directions of the divergence that the lens curves are known to have."""
    found = set()
    for name in run.lens:
        try:
            attributes = read_attributes(run.path / layout.RESULTS, "lens", name)
        except StoreError:
            continue
        found.add(str(attributes.get("direction", "unknown")))
    return found - {"unknown"}


def _has_texts(run: Run, name: str) -> bool:
    try:
        attributes = read_attributes(run.path / layout.RESULTS, "gates", name)
    except StoreError:  # whoever asks for these gates hears of it
        return False
    return bool(attributes.get("texts"))


def _no_subject(run: Run, problem: str, there: Mapping[str, Subject]) -> ConfigError:
    return ConfigError(f"{run.path}: {problem}; there is {', '.join(there) or 'none'}")


@dataclass(frozen=True)
class Finding:
    """One result: its name, what it says, what is doubtful, and the figure that shows it."""

    name: str
    text: str
    figure: str
    warnings: tuple[str, ...] = ()


def findings(run: Path, *, parts: bool = True) -> Iterator[Finding]:
    """Every stored result of a run that answers its config, read from disk.

    Args:
        run: the run directory.
        parts: also the maps that were made for another result alone, which sums them up.
    """
    stored = open_run(run)
    summed_up = set() if parts else stored.parts
    for kind in KINDS.values():
        if kind.is_finding:
            for name, result in stored.results(kind.name).items():
                if (kind.name, name) in summed_up:
                    continue
                figure = _figure(run, f"{kind.name}-{name}", kind.name if kind.together else "")
                yield Finding(f"{kind.name}/{name}", result.summary(), figure, result.doubts)


def _figure(run: Path, *stems: str) -> str:
    """Path of the first of these figures that is drawn; "" if none is."""
    paths = (run / layout.FIGURES / f"{stem}.png" for stem in stems if stem)
    return next((str(path) for path in paths if path.is_file()), "")
