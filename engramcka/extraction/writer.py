"""Writing in the background: a bounded number of jobs, in threads, so that the model need not wait.

Knows nothing of what is written.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

WAITING = 2  # jobs under way or waiting: what bounds the host memory that they hold


class Writer:
    """A pool of threads with back-pressure; use it as a context manager, which waits at its end."""

    def __init__(self, threads: int = 1) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="engramcka-writer")
        self._room = threading.Semaphore(WAITING)
        self._jobs: list[Future[None]] = []

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=True)
        if error is None:
            self._raise_finished()

    def submit(self, job: Callable[[], None]) -> None:
        """Run a job when a thread is free; waits while `WAITING` are under way.

        Raises:
            Exception: what an earlier job raised.
        """
        self._room.acquire()
        self._raise_finished()

        def run() -> None:
            try:
                job()
            finally:
                self._room.release()

        self._jobs.append(self._pool.submit(run))

    def _raise_finished(self) -> None:
        done = [job for job in self._jobs if job.done()]
        self._jobs = [job for job in self._jobs if job not in done]
        for job in done:
            job.result()
