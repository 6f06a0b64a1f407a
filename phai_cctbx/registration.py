"""Registers phai_cctbx in the libtbx environment of the running process.

``libtbx.configure`` registers a module for good, while pip knows nothing of libtbx: after a pip
install the module is added at import to the environment in memory. The environment file is left
alone, since it belongs to the installed cctbx.
"""

from pathlib import Path

import libtbx.load_env
from libtbx import env_config

MODULE_NAME = "phai_cctbx"
CONFIG_NAME = "libtbx_config"


def distribution_path():
    """Folder that libtbx takes for the module: the one that holds its ``libtbx_config``.

    Returns
    -------
    pathlib.Path
        The package itself where it was installed, the checkout around it otherwise.

    Raises
    ------
    RuntimeError
        If neither holds the file: the installation is incomplete.
    """
    package = Path(__file__).resolve().parent
    for folder in (package, package.parent):
        if (folder / CONFIG_NAME).is_file():
            return folder
    raise RuntimeError(
        f"{CONFIG_NAME} is missing in {package} and in {package.parent}: reinstall {MODULE_NAME}"
    )


def ensure_registered():
    """Make ``libtbx.env.has_module("phai_cctbx")`` true in this process.

    Returns
    -------
    bool
        True if the module was added by this call, False if libtbx knew it already.
    """
    environment = libtbx.env
    if environment.has_module(MODULE_NAME):
        return False
    module = env_config.module(
        env=environment,
        name=MODULE_NAME,
        dist_path=environment.as_relocatable_path(str(distribution_path())),
    )
    module.process_libtbx_config()
    environment.register_module(dependent_module=None, module=module)
    return True
