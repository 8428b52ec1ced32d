"""Environment variables that a run sets, for itself and for the processes that it starts."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def restored_environment() -> Iterator[None]:
    """Restore all environment variables afterwards, so that a later run in the same process is another run."""
    variables = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(variables)
