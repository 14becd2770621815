"""The two names under which transformers' models take and give the cache of keys and values.

Up to transformers 5.23 it is ``past_key_values``, from 5.24 on ``cache``. Models here take both,
and hand it on under the name that the called one has: under another it would fall into
``**kwargs``, every step would begin with an empty cache, and its logits would be wrong without a
word.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from transformers.cache_utils import Cache

CACHE_NAMES = ("cache", "past_key_values")


def cache_name(function: Callable[..., Any]) -> str | None:
    """The name under which a function takes the cache, None if it has neither."""
    parameters = inspect.signature(function).parameters
    return next((name for name in CACHE_NAMES if name in parameters), None)


def given_cache(cache: Any, past_key_values: Any, others: Mapping[str, Any]) -> Cache | None:
    """The one cache of a call.

    Args:
        cache: what was given under the one name.
        past_key_values: under the other.
        others: the call's further keywords.

    Raises:
        ValueError: two different caches, one of a kind that is no transformers Cache (tuples,
            pages of continuous batching), or one under a name that is not known here.
    """
    if cache is not None and past_key_values is not None and cache is not past_key_values:
        raise ValueError("cache and past_key_values are two names of one argument; give one")
    found = cache if cache is not None else past_key_values
    if found is not None and not isinstance(found, Cache):
        raise ValueError(
            f"the cache is a {type(found).__name__}; a transformers Cache is needed, such as "
            "DynamicCache or StaticCache (continuous batching is not supported)"
        )
    for name, value in others.items():
        if isinstance(value, Cache):
            raise ValueError(
                f"a cache was given as {name!r}, which this model would not use; the names are "
                f"{' and '.join(CACHE_NAMES)}"
            )
    return found


def returned_cache(outputs: Mapping[str, Any]) -> Any:
    """The cache in a model's outputs, None if there is none."""
    return next((outputs[name] for name in outputs if name in CACHE_NAMES), None)
