"""Revisions of a model on the hub that a pattern names, and the training step that a name tells."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

from engramcka.config.model_tables import is_pattern
from engramcka.plain_text import first_line

SECONDS = 30.0  # that the hub is waited for
_STEP = re.compile(r"step[-_]?(\d+)", re.IGNORECASE)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHOWN = 8  # names in a message


class NotListed(Exception):
    """Which revisions there are cannot be told, or none is as the pattern says; a line."""


def step_of(name: str) -> int | None:
    """The training step that the name of a checkpoint tells; None if it tells none.

    The number behind the word "step", as in step1000-tokens4B, or else the last number there is;
    of a commit no number is one.
    """
    if _COMMIT.fullmatch(name):
        return None
    found = _STEP.findall(name) or re.findall(r"\d+", name)
    return int(found[-1]) if found else None


def matching(repository: str, names: Sequence[str]) -> list[str]:
    """The names, with the branches and tags that each pattern matches in its place.

    Args:
        repository: a hub name; it is asked for once in a process, if there is a pattern.
        names: of revisions, or patterns such as ``step*``.

    Raises:
        NotListed: the hub cannot be asked, or a pattern matches nothing.
    """
    found: list[str] = []
    for name in names:
        if not is_pattern(name):
            found.append(name)
            continue
        there = branches_and_tags(repository)
        matched = [one for one in there if fnmatchcase(one, name)]
        if not matched:
            raise NotListed(
                f"no branch or tag of {repository!r} matches {name!r}; there are: {_listed(there)}"
            )
        found += matched
    return list(dict.fromkeys(found))


@lru_cache(maxsize=64)
def branches_and_tags(repository: str) -> tuple[str, ...]:
    """Names of all branches and tags of a model on the hub, as it has them now.

    Raises:
        NotListed: it cannot be asked, or there is no such model; names those that are cached here.
    """
    from huggingface_hub import HfApi, utils
    from huggingface_hub.errors import OfflineModeIsEnabled

    hub: Any = utils  # its stub says less than it documents
    try:  # as HfApi.list_repo_refs, which waits for ever
        answer = hub.get_session().get(
            f"{HfApi().endpoint}/api/models/{repository}/refs",
            headers=hub.build_hf_headers(),
            timeout=SECONDS,
        )
        hub.hf_raise_for_status(answer)
        refs: dict[str, Any] = answer.json()
        return tuple(str(ref["name"]) for kind in ("branches", "tags") for ref in refs[kind])
    except Exception as error:  # the library and what it is made on raise their own kinds
        is_offline = isinstance(error, OfflineModeIsEnabled)
        reason = "HF_HUB_OFFLINE is set" if is_offline else first_line(error)
        here = _cached(repository)
        raise NotListed(
            f"the branches of {repository!r} cannot be listed ({reason}); name them, as "
            f'revision = ["step1000", "step2000"]; cached here: {_listed(here)}'
        ) from error


def _cached(repository: str) -> list[str]:
    """Revisions of which something lies in the hub's cache on this machine."""
    from huggingface_hub.constants import HF_HUB_CACHE

    refs = Path(HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}" / "refs"
    found = (file.relative_to(refs).as_posix() for file in refs.rglob("*") if file.is_file())
    return sorted(found, key=lambda name: (step_of(name) or 0, name))


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:_SHOWN]))
    return (shown + ", .." if len(names) > _SHOWN else shown) or "none"
