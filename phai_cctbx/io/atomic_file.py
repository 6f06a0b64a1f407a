"""Writing a file in one step: it appears under its name only when it is complete."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from libtbx.utils import Sorry


@contextmanager
def replacing(path) -> Iterator[Path]:
    """Give a temporary name beside `path`, renamed to it at the end, removed on failure.

    Raises
    ------
    Sorry
        If the file cannot be written (no space, no permission).
    """
    path = Path(path)
    try:
        handle, name = tempfile.mkstemp(
            prefix=f".{path.stem}_", suffix=path.suffix, dir=path.parent
        )
    except OSError as error:
        raise Sorry(f"{path}: cannot be written ({error.strerror}). Check the folder.") from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise Sorry(f"{path}: cannot be written ({error.strerror}). Check the disk.") from None
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path, text: str) -> Path:
    """Write `text` to `path` in one step and return the path."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)
