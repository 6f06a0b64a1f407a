"""The result files of a run: refused before the work where they exist, and written all or none."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

# cctbx
from libtbx.utils import Sorry


class OutputFiles:
    """Files of one base name in one folder.

    Parameters
    ----------
    base_name : str
        File name without extension.
    extensions : sequence of str
        Without the dot.
    directory : path-like
    overwrite : bool
        Whether files of that name may be replaced.

    Raises
    ------
    libtbx.utils.Sorry
        If the folder does not exist or cannot be written, or a file exists and `overwrite` is
        not set.
    """

    def __init__(self, base_name: str, extensions, directory=".", overwrite: bool = False):
        self.directory = Path(directory)
        self.overwrite = overwrite
        if not base_name or Path(base_name).name != base_name or base_name.strip(".") == "":
            raise Sorry(
                f"prefix={base_name}: a file name without folder is expected. Name the folder by"
                " directory=."
            )
        if not self.directory.is_dir():
            raise Sorry(f"{directory}: no such folder. Make it, or name another by directory=.")
        if not os.access(self.directory, os.W_OK | os.X_OK):
            raise Sorry(f"{directory}: this folder cannot be written. Name another by directory=.")
        #: Extension -> path.
        self.paths = {name: self.directory / f"{base_name}.{name}" for name in extensions}
        self.refuse_existing()

    def refuse_existing(self) -> None:
        """Raise `Sorry` where a file exists that must not be replaced."""
        existing = [path for path in self.paths.values() if os.path.lexists(path)]
        folders = [path for path in existing if path.is_dir()]
        if folders:
            raise Sorry(f"{folders[0]} is a folder: move it, or name the results by prefix=.")
        if existing and not self.overwrite:
            names = ", ".join(path.name for path in existing)
            raise Sorry(
                f"{names} would be overwritten (in {self.directory.resolve()}). Set"
                " overwrite=True, or name the results by prefix= or directory=."
            )

    @contextmanager
    def staged(self):
        """Paths to write to (extension -> path), moved to their place when all are written.

        They lie in a hidden folder beside the targets, so that the move is one step on any file
        system; an error before it leaves nothing behind.
        """
        try:
            with tempfile.TemporaryDirectory(dir=self.directory, prefix=".phai_") as folder:
                yield {name: Path(folder, path.name) for name, path in self.paths.items()}
                self.refuse_existing()
                for path in self.paths.values():
                    os.replace(Path(folder, path.name), path)
        except OSError as error:
            raise Sorry(
                f"{error.filename or self.directory}: cannot be written ({error.strerror}). Make"
                " room, or name another folder by directory=."
            ) from error
