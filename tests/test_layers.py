"""The order of the rooms in docs/architecture.md, read from the source without importing it."""

import ast
import re
import sys
import tomllib
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "phai_cctbx"
CCTBX = {"boost_adaptbx", "cctbx", "iotbx", "libtbx", "mmtbx", "omptbx", "scitbx", "smtbx"}
TORCH_AND_NUMPY_ALONE = {"network", "training"}
WORKER = "phai_cctbx.aspherical.worker"
GENERATOR_PREFIX = "gen_"  # scripts that write tables kept beside them; never imported


def rooms_from_top():
    """Order of the rooms, from the table in docs/architecture.md."""
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text()
    return re.findall(r"^\| `(\w+)/` \|", text, flags=re.MULTILINE)


def source_files():
    """Python files of the package; the folder of the plugin runs inside Olex2 instead."""
    return sorted(path for path in PACKAGE.rglob("*.py") if "-" not in path.parent.name)


def module_name(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "phai_cctbx" and parts[1] in ROOMS else None


def imported_names(path):
    """Yield (line, dotted name) for each import of a file, at any depth.

    ``from phai_cctbx import io`` and ``from phai_cctbx.io import read`` give the name imported as
    well, since it may be a module.
    """
    package = path.relative_to(PACKAGE.parent).parent.parts
    for node in ast.walk(ast.parse(path.read_text(), filename=str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            if base == "phai_cctbx" or (room_of(base) and base.count(".") == 1):
                yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, base


def root(name):
    return name.split(".")[0]


ROOMS = rooms_from_top()
IMPORTS = [(path, *found) for path in source_files() for found in imported_names(path)]


def violations(is_wrong):
    """Places whose import is wrong, by a function of (room or None, module, imported name)."""
    return [
        f"{path.relative_to(PACKAGE.parent)}, line {line}: {name}"
        for path, line, name in IMPORTS
        if is_wrong(room_of(module_name(path)), module_name(path), name)
    ]


def is_generator(module):
    return module.rpartition(".")[2].startswith(GENERATOR_PREFIX)


def test_rooms_and_folders_agree():
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert set(ROOMS) == folders
    assert ROOMS[0] == "command_line"
    assert ROOMS.index("training") < ROOMS.index("network")


def test_no_room_imports_from_a_room_above():
    def upwards(room, module, name):
        return room and room_of(name) in ROOMS[: ROOMS.index(room)]

    assert violations(upwards) == []


def test_rooms_do_not_use_the_public_shortcuts():
    """``from phai_cctbx import solve`` and its like lead from any room to the top."""
    free = {f"phai_cctbx.{name}" for name in ("__version__", "version", "registration", *ROOMS)}

    def shortcut(room, module, name):
        return room and name.count(".") == 1 and root(name) == "phai_cctbx" and name not in free

    assert violations(shortcut) == []


def test_network_and_training_need_torch_and_numpy_alone():
    allowed = {"torch", "numpy", "phai_cctbx", *sys.stdlib_module_names}

    def foreign(room, module, name):
        bound = room in TORCH_AND_NUMPY_ALONE and not is_generator(module)
        return bound and root(name) not in allowed

    assert violations(foreign) == []


def test_generators_are_not_imported():
    assert violations(lambda room, module, name: is_generator(name)) == []


def test_pyscf_and_cctbx_never_meet():
    """In one process they end in a segmentation fault, whichever comes first.

    The worker is run by its path, and its constants may be imported: PySCF stands in its functions.
    """

    def meeting(room, module, name):
        if module == WORKER:
            return root(name) in CCTBX | {"phai_cctbx"}
        return root(name) == "pyscf"

    assert violations(meeting) == []
    worker = PACKAGE.parent.joinpath(*WORKER.split(".")).with_suffix(".py")
    top_level = ast.parse(worker.read_text()).body
    imports = [node for node in top_level if isinstance(node, ast.Import | ast.ImportFrom)]
    assert "pyscf" not in " ".join(ast.unparse(node) for node in imports)


def test_what_runs_before_the_guard_loads_neither_torch_nor_rdkit():
    """A dispatcher runs its file as a script, and isort puts torch above phai_cctbx."""

    def too_early(room, module, name):
        return room in (None, "command_line") and root(name) in {"torch", "rdkit"}

    assert violations(too_early) == []


def test_every_library_is_declared():
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    requirements = sum(project["optional-dependencies"].values(), project["dependencies"])
    declared = {re.match(r"[\w-]+", requirement)[0] for requirement in requirements}
    known = declared | CCTBX | {"phai_cctbx", *sys.stdlib_module_names}
    assert violations(lambda room, module, name: root(name) not in known) == []
