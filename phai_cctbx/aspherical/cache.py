"""Results on disk, named by the SHA-256 of what they were computed from.

An entry is written whole or not at all (temporary file, then rename), and a lock per
entry makes a second run wait for the first instead of repeating its work.
"""

import contextlib
import hashlib
import json
import logging
import os
import tempfile
import zipfile
from pathlib import Path

import numpy as np

try:
    import fcntl
except ImportError:  # no advisory locks on Windows: renames stay atomic, work may be repeated
    fcntl = None

logger = logging.getLogger(__name__)

FORMAT = "1"
"""Enters every key; raised when the content of an entry changes its meaning."""


def default_folder():
    """The cache folder: $PHAI_CCTBX_CACHE, else phai_cctbx in the user's cache folder."""
    if folder := os.environ.get("PHAI_CCTBX_CACHE"):
        return Path(folder)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "phai_cctbx" / "aspherical"


def content_key(settings, arrays):
    """SHA-256 of a dictionary of settings and of arrays (shape, type and bytes)."""
    digest = hashlib.sha256(FORMAT.encode())
    digest.update(json.dumps(settings, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}{array.shape}{array.dtype.str}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


class Cache:
    """A folder of ``.npz`` files named by content.

    Parameters
    ----------
    folder : path-like, optional
        Default: `default_folder`.
    """

    def __init__(self, folder=None):
        self.folder = Path(folder) if folder else default_folder()

    def path(self, key):
        """File of an entry."""
        return self.folder / key[:2] / f"{key}.npz"

    def load(self, key):
        """The arrays of an entry, or None where there is no whole one."""
        path = self.path(key)
        if not path.exists():
            return None
        try:
            with np.load(path) as archive:
                result = {name: archive[name] for name in archive.files}
            os.utime(path)
            return result
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            logger.warning("cache entry %s is damaged (%s): computed again", path, error)
            path.unlink(missing_ok=True)
            return None

    def store(self, key, arrays):
        """Write an entry atomically."""
        path = self.path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".new")
        try:
            with os.fdopen(handle, "wb") as stream:
                np.savez(stream, **arrays)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    @contextlib.contextmanager
    def lock(self, key):
        """Hold the entry's lock: a second process that wants the same entry waits here."""
        path = self.path(key).with_suffix(".lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w") as stream:
            if fcntl:
                fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def get(self, settings, arrays, compute):
        """The entry for this content, from disk or by ``compute()``.

        Returns
        -------
        result : dict[str, numpy.ndarray]
        from_disk : bool
        """
        key = content_key(settings, arrays)
        if (found := self.load(key)) is not None:
            return found, True
        with self.lock(key):
            if (found := self.load(key)) is not None:
                return found, True
            result = compute()
            self.store(key, result)
        return result, False
