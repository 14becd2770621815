"""What of the site stands outside docs/: the pages at the head of the repository, and screens.

mkdocs calls these functions by their names. A link to a file that is on the site leads to it; a
link to any other file of the repository fails the build, and so does a picture that is not there.
"""

import re
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).parents[1]
PAGES = {
    "index.md": "README.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "SECURITY.md": "SECURITY.md",
    "benchmarks.md": "benchmarks/README.md",
}
"""Pages by their place on the site, and where they stand."""

SNAPSHOTS = "tests/tui/__snapshots__/test_tui_snapshots"
"""Screens of the app, as the tests keep them."""

_LINK = re.compile(r'(?<=\]\()([^()\s]+)(?=\))|(?<=src=")([^"]+)(?=")')


def on_files(files, config):
    """Add the pages and screens to those of docs/."""
    from mkdocs.structure.files import File

    for place, source in PAGES.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / source)))
    for screen in sorted((ROOT / SNAPSHOTS).glob("*.svg")):
        place = f"screens/{screen.name}".replace("[", "-").replace("]", "")
        files.append(File.generated(config, place, abs_src_path=str(screen)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Lead links to what has another place on the site than in the repository."""
    source = ROOT / PAGES.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def led(match):
        return _led(match[0], source.parent)

    return _LINK.sub(led, markdown)


def _led(link, folder):
    """A link of a page that stands in a folder, as it is on the site."""
    path, mark, anchor = link.partition("#")
    if not path or "://" in path:
        return link
    target = (folder / unquote(path)).resolve()
    if not target.is_relative_to(ROOT):
        return link
    inside = target.relative_to(ROOT).as_posix()
    by_source = {source: place for place, source in PAGES.items()}
    if inside in by_source:
        place = by_source[inside]
    elif inside.startswith(SNAPSHOTS):
        place = f"screens/{target.name}".replace("[", "-").replace("]", "")
    else:
        place = inside.removeprefix("docs/")
    return place + mark + anchor


def on_post_build(config):
    """Refuse links and pictures that lead nowhere; mkdocs looks at those of Markdown alone."""
    from mkdocs.exceptions import PluginError

    site = Path(config.site_dir)
    lost = sorted(
        f"{page.relative_to(site)}: {link}"
        for page in site.glob("*.html")
        if page.name != "404.html"  # its links begin at the site's own address
        for link in re.findall(r'(?:href|src)="([^"]+)"', page.read_text(encoding="utf-8"))
        if not _is_there(link, page.parent)
    )
    if lost:
        raise PluginError("links that lead nowhere:\n" + "\n".join(lost))


def _is_there(link, folder):
    path = unquote(link.partition("#")[0].partition("?")[0])
    return ":" in path or not path or (folder / path).exists()
