"""Read, check or write several files, or parts of one, at once by a few threads.

The threads belong to the process and are shared by all stores.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

MAX_LOCAL_THREADS = 4  # threads on local files, where a core each is had


def local_threads() -> int:
    """How many threads work on local files at once."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(MAX_LOCAL_THREADS, cores or 1)


def parallel_map(
    function: Callable[[Job], Result], jobs: Sequence[Job], threads: int | None = None
) -> list[Result]:
    """function(job) of every job, in order; where one fails, raises after all others under way.

    Args:
        function: called in several threads at once, of which this one is one; must not call
            `parallel_map` itself.
        jobs: what to call it with.
        threads: as many at once; `local_threads` if left out.
    """
    threads = min(threads or local_threads(), len(jobs))
    if threads < 2:
        return [function(job) for job in jobs]
    pool = _pool(threads - 1, os.getpid())
    own = len(jobs) // threads
    futures = [pool.submit(function, job) for job in jobs[own:]]
    try:
        results = [function(job) for job in jobs[:own]]
    finally:
        wait(futures)
    return results + [future.result() for future in futures]


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """The threads of a process; a forked one has none of its parent's."""
    return ThreadPoolExecutor(threads, thread_name_prefix="engramcka-files")
