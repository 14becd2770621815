"""Which codecs of others' Zarr arrays are read, and how many bytes one of them may give.

A codec is what a name in somebody's file makes us execute, so that only those below are looked up,
and a few kilobytes of a compressed chunk can say that they are gigabytes, so that none gives more
than its chunk can hold.
"""

from __future__ import annotations

import asyncio
import bz2
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numcodecs
import numpy as np
from numcodecs.abc import Codec
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import ShardingCodec
from zarr.core.buffer.cpu import as_numpy_array_wrapper

from engramcka.stores.foreign import limits

_MOST_INNER = 1 << 20  # chunks of a shard
_MOST_CODECS = 8
_NESTED = 2  # shards in shards
_LARGEST_ELEMENT = 64
_BLOSC_HEADER = 16

_ZARRS_OWN = ("bytes", "transpose", "crc32c")  # give as many bytes as they take
_FIXED = ("shuffle", "bitround", "crc32", "crc32c", "adler32", "fletcher32")  # numcodecs', so too
_COMPRESSORS = ("blosc", "bz2", "gzip", "lz4", "zlib", "zstd")
_SHARDS = "sharding_indexed"
_NUMCODECS = "numcodecs."  # before the names of format 3


class Bounded(Codec):  # type: ignore[misc]
    """A codec of format 2 that gives so many bytes at most."""

    codec_id = "bounded"  # of the class, which Zarr knows codecs by

    def __init__(self, name: str, options: Mapping[str, Any], most: int) -> None:
        self.codec_id, self.most = name, most
        size = options.get("elementsize", 1)
        if not (isinstance(size, int) and 0 < size <= _LARGEST_ELEMENT):
            raise ValueError(f"a codec {name!r} of elements of {str(size)[:40]} bytes")
        self._codec = numcodecs.get_codec({**options, "id": name}) if name in _FIXED else None

    def decode(self, buf: Any, out: Any = None) -> Any:
        """The bytes as they were before they were encoded."""
        if self._codec is not None:
            return self._codec.decode(buf, out)
        data = np.ascontiguousarray(buf).tobytes()
        return np.frombuffer(_DECODERS[self.codec_id](data, self.most), np.uint8)

    def encode(self, buf: Any) -> Any:
        """Never: others' arrays are only read."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """What a document would call it."""
        return {"id": self.codec_id}


@dataclass(frozen=True)
class _Bounded3(BytesBytesCodec):
    """The same for format 3."""

    codec: Bounded
    is_fixed_size = False

    async def _decode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        decode = partial(as_numpy_array_wrapper, self.codec.decode)
        return await asyncio.to_thread(decode, chunk_bytes, chunk_spec.prototype)

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: Any) -> int:
        """Unknown, as for every codec that compresses."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.codec.codec_id}


def with_bounds(metadata: Mapping[str, Any], itemsize: int) -> tuple[dict[str, Any], int]:
    """An array's metadata with codecs that are safe to decode with, and the most bytes of a file.

    Args:
        metadata: the array's document, of format 2 or 3.
        itemsize: bytes of a value.

    Raises:
        ValueError: chunks of an absurd size, or a codec that is not read; names it.
    """
    changed = dict(metadata)
    if "chunk_grid" in metadata:
        chunk = metadata["chunk_grid"]["configuration"]["chunk_shape"]
        most = _most(chunk, itemsize)
        changed["codecs"] = _codecs_of(metadata["codecs"], chunk, itemsize)
        return changed, most
    most = _most(metadata["chunks"], itemsize)
    for key, several in (("compressor", False), ("filters", True)):
        listed = metadata.get(key)
        if listed is None:
            continue
        made = [_numcodec(one, most) for one in _listed(listed if several else [listed])]
        changed[key] = made if several else made[0]
    return changed, most


def _most(chunk: Any, itemsize: int) -> int:
    return limits.encoded_bytes(limits.chunk_bytes(chunk, itemsize))


def _listed(codecs: Any) -> list[Any]:
    if not isinstance(codecs, list) or len(codecs) > _MOST_CODECS:
        raise ValueError("no list of codecs, or one without end")
    return codecs


def _numcodec(document: Any, most: int) -> Bounded:
    """A codec of format 2."""
    options = dict(document) if isinstance(document, Mapping) else {"id": document}
    name = options.pop("id", None)
    if name not in (*_FIXED, *_COMPRESSORS):
        raise _refused(name, (*_FIXED, *_COMPRESSORS))
    return Bounded(name, options, most)


def _codecs_of(codecs: Any, chunk: Sequence[int], itemsize: int, depth: int = 0) -> list[Any]:
    """The codecs of format 3 of a chunk of this shape."""
    most, found = _most(chunk, itemsize), []
    for document in _listed(codecs):
        name, options = _named(document)
        if name in _ZARRS_OWN:
            found.append(document)
        elif name == _SHARDS and depth < _NESTED:
            found.append(_shards(options, chunk, itemsize, depth + 1))
        elif name in _COMPRESSORS or name.removeprefix(_NUMCODECS) in (*_FIXED, *_COMPRESSORS):
            found.append(_Bounded3(Bounded(name.removeprefix(_NUMCODECS), options, most)))
        else:
            allowed = [f"{_NUMCODECS}{name}" for name in (*_FIXED, *_COMPRESSORS)]
            raise _refused(name, (*_ZARRS_OWN, _SHARDS, *_COMPRESSORS, *allowed))
    return found


def _shards(options: Mapping[str, Any], shard: Sequence[int], itemsize: int, depth: int) -> Any:
    inner = options["chunk_shape"]
    _most(inner, itemsize)
    if math.prod(shard) // math.prod(inner) > _MOST_INNER:
        raise ValueError(f"shards of more than {_MOST_INNER:,} chunks")
    index = options.get("index_codecs", [{"name": "bytes", "configuration": {"endian": "little"}}])
    for name, _ in map(_named, _listed(index)):
        if name not in ("bytes", "crc32c"):
            raise _refused(name, ("bytes", "crc32c"))
    return ShardingCodec(
        chunk_shape=inner,
        codecs=_codecs_of(options["codecs"], inner, itemsize, depth),
        index_codecs=index,
        index_location=options.get("index_location", "end"),
    )


def _named(document: Any) -> tuple[str, Mapping[str, Any]]:
    if isinstance(document, str):
        return document, {}
    return str(document["name"]), document.get("configuration") or {}


def _refused(name: Any, allowed: Sequence[str]) -> ValueError:
    return ValueError(f"codec {str(name)[:40]!r} is not read; allowed: {', '.join(allowed)}")


def _too_much(most: int) -> ValueError:
    return ValueError(f"a chunk unpacks to more than the {most:,} bytes that it can hold")


def _streamed(make: Callable[[], Any], data: bytes, most: int) -> bytes:
    """Of one of the standard library's decompressors."""
    stream = make()
    found: bytes = stream.decompress(data, most + 1)
    if len(found) > most:
        raise _too_much(most)
    if not stream.eof or stream.unused_data.strip(b"\0"):
        raise ValueError("a chunk that is cut short, or followed by something else")
    return found


def _zstd(data: bytes, most: int) -> Any:
    import pyarrow

    with pyarrow.CompressedInputStream(pyarrow.BufferReader(data), "zstd") as stream:
        found = stream.read(most + 1)
    if len(found) > most:
        raise _too_much(most)
    return found


def _blosc(data: bytes, most: int) -> Any:
    """Its header says how many bytes there will be, and how many it has, which it is trusted in."""
    if len(data) < _BLOSC_HEADER or int.from_bytes(data[12:16], "little") != len(data):
        raise ValueError("a chunk that is cut short, or followed by something else")
    if int.from_bytes(data[4:8], "little") > most:
        raise _too_much(most)
    return numcodecs.Blosc().decode(data)


def _lz4(data: bytes, most: int) -> Any:
    """Four bytes before it say how many there will be."""
    if int.from_bytes(data[:4], "little") > most:
        raise _too_much(most)
    return numcodecs.LZ4().decode(data)


_DECODERS: Mapping[str, Callable[[bytes, int], Any]] = {
    "blosc": _blosc,
    "bz2": partial(_streamed, bz2.BZ2Decompressor),
    "gzip": partial(_streamed, partial(zlib.decompressobj, 31)),
    "lz4": _lz4,
    "zlib": partial(_streamed, zlib.decompressobj),
    "zstd": _zstd,
}
