"""Writing files on other threads while this one computes."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

_THREADS = 2
_MOST_WAITING = 64  # pictures in memory that are not written yet


@contextmanager
def background_writer() -> Iterator[Callable[..., None]]:
    """Yield a function that has `write(*arguments)` done on another thread; all of it is done when the block ends.

    Raises:
        Exception: that of the first call that failed, from a later call or at the end of the block.
    """
    waiting: deque[Future[Any]] = deque()

    def submit(write: Callable[..., object], *arguments: object) -> None:
        waiting.append(pool.submit(write, *arguments))
        while waiting and (len(waiting) > _MOST_WAITING or waiting[0].done()):
            waiting.popleft().result()

    with ThreadPoolExecutor(_THREADS) as pool:
        yield submit
        while waiting:
            waiting.popleft().result()
