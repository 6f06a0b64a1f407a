"""The plugin put into an Olex2, and taken out again.

Olex2 loads the plugins that plugins.xld in its folder names, each from
``util/pyUtil/PluginLib/plugin-NAME``.
"""

from __future__ import annotations

import re
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path

# cctbx
import libtbx.load_env
from libtbx.utils import Sorry

from phai_cctbx.io.atomic_file import replacing

NAME = "PhaiCctbx"
SOURCE = Path(__file__).parent / f"plugin-{NAME}"
#: Where Olex2 keeps plugins, and the file that names them, below its folder.
PLUGIN_LIBRARY = Path("util", "pyUtil", "PluginLib")
PLUGIN_LIST = "plugins.xld"
#: File of the plugin that holds the command, one argument per line.
COMMAND_FILE = "command.txt"
SOLVER = "phai_cctbx.solve"

_ENTRY = re.compile(rf"\s*<{NAME}>")
_NO_ENTRIES = re.compile(r"\s*<Plugin\s*>\s*")


def install(folder, executable=None) -> Path:
    """Put the plugin into the Olex2 in a folder, in the place of an older one.

    Parameters
    ----------
    folder : path-like
        Of Olex2: the one that holds ``util/pyUtil/PluginLib``.
    executable : path-like, optional
        The command phai_cctbx.solve; that of this installation by default.

    Returns
    -------
    pathlib.Path
        Folder of the plugin.

    Raises
    ------
    libtbx.utils.Sorry
        If this is no folder of Olex2, or it cannot be written.
    """
    target = _plugin_folder(folder)
    command = solver_command(executable)
    listing = Path(folder, PLUGIN_LIST)
    text, encoding = _read_list(listing)
    if not _ENTRY.search(text):
        head, tag, rest = text.partition("<Plugin")
        text = f"{head}{tag}\n  <{NAME}>{rest}" if tag else f"{text}<Plugin\n  <{NAME}>\n>\n"
    with _writing(folder):
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(SOURCE, target, ignore=shutil.ignore_patterns("__pycache__"))
        (target / COMMAND_FILE).write_text("\n".join(command) + "\n", encoding="utf-8")
        _write_list(listing, text, encoding)
    return target


def uninstall(folder) -> Path:
    """Take the plugin out of an Olex2; other plugins stay as they are.

    Raises
    ------
    libtbx.utils.Sorry
        If it is not there, or the folder cannot be written.
    """
    target = _plugin_folder(folder)
    listing = Path(folder, PLUGIN_LIST)
    text, encoding = _read_list(listing)
    if not target.is_dir() and not _ENTRY.search(text):
        raise Sorry(f"{folder}: the plugin is not in this Olex2.")
    with _writing(folder):
        if target.is_dir():
            shutil.rmtree(target)
        remaining = _ENTRY.sub("", text)
        if _NO_ENTRIES.fullmatch(remaining):
            listing.unlink()
        elif remaining != text:
            _write_list(listing, remaining, encoding)
    return target


def solver_command(executable=None) -> list[str]:
    """The command that the plugin runs: phai_cctbx.solve of this installation.

    A dispatcher or console script where there is one, for it knows the environment that it needs;
    this Python otherwise.

    Raises
    ------
    libtbx.utils.Sorry
        If the executable that is named does not exist.
    """
    if executable is not None:
        path = Path(executable).resolve()
        if not path.is_file():
            raise Sorry(f"executable={executable}: no such file.")
        return [str(path)]
    for folder in (Path(abs(libtbx.env.build_path), "bin"), Path(sys.executable).parent):
        for name in (SOLVER, f"{SOLVER}.exe", f"{SOLVER}.bat"):
            if (folder / name).is_file():
                return [str(folder / name)]
    return [sys.executable, "-P", "-m", "phai_cctbx.command_line.solve"]


def _plugin_folder(folder):
    library = Path(folder, PLUGIN_LIBRARY)
    if not library.is_dir():
        raise Sorry(
            f"{folder}: no Olex2 here, for there is no {PLUGIN_LIBRARY}. Name the folder of"
            " Olex2, which its command 'echo BaseDir()' tells."
        )
    return library / f"plugin-{NAME}"


def _read_list(path) -> tuple[str, str]:
    """Text and encoding of plugins.xld, empty where there is none."""
    if not path.is_file():
        return "", "utf-8"
    raw = path.read_bytes()
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    try:
        return raw.decode(encoding), encoding
    except UnicodeDecodeError as error:
        raise Sorry(f"{path}: cannot be read as text ({error}).") from error


def _write_list(path, text, encoding):
    with replacing(path) as temporary:
        temporary.write_bytes(text.encode(encoding))


@contextmanager
def _writing(folder):
    try:
        yield
    except OSError as error:
        raise Sorry(
            f"{error.filename or folder}: cannot be written ({error.strerror}). Olex2 may stand"
            " where only the administrator writes: run the command as administrator."
        ) from error
