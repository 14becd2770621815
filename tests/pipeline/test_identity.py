"""Files are known again by names, sizes and what they hold."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from engramcka.pipeline.identity import content_digest


def test_a_large_file_is_told_by_what_it_holds(tmp_path: Path) -> None:
    file, other = tmp_path / "a.bin", tmp_path / "b" / "a.bin"
    content = np.random.default_rng(0).integers(0, 256, 3_000_000, dtype=np.uint8)
    file.write_bytes(content.tobytes())
    other.parent.mkdir()
    shutil.copyfile(file, other)
    digest = content_digest([file])
    assert digest == content_digest([other])
    for start, stop in ((0, 1), (content.size - 1, content.size), (1_000_000, 1_100_000)):
        changed = content.copy()
        changed[start:stop] ^= 1
        other.write_bytes(changed.tobytes())
        assert content_digest([other]) != digest
    other.write_bytes(content[:-1].tobytes())
    assert content_digest([other]) != digest
    many = [tmp_path / f"{number}.txt" for number in range(600)]
    for one in many:
        one.write_text(one.name)
    digest = content_digest(many)
    assert digest == content_digest(reversed(many))
    sorted(many)[-1].write_text("longer than it was")  # every size counts
    assert content_digest(many) != digest
    assert content_digest([]) is None
    assert content_digest([tmp_path / "gone"]) is None
