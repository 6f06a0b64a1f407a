"""Settings of Sphinx, and the pages that are generated before every build."""

import importlib
import inspect
import pkgutil
from pathlib import Path

import phai_cctbx
from phai_cctbx.version import __version__

project = "phai_cctbx"
author = "The phai_cctbx developers"
version = release = __version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "alabaster"
html_theme_options = {
    "description": "Crystal structures from amplitudes at low resolution",
    "page_width": "1080px",
    "fixed_sidebar": True,
}
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_use_ivar = True
# A class name in a docstring is linked where it is the only one of that name.
suppress_warnings = ["ref.python"]
napoleon_use_rtype = False

REFERENCE = Path(__file__).parent / "reference"
#: Rooms whose modules the reference shows, and what is in them.
ROOMS = {
    "programs": "Programs",
    "io": "Files",
    "aspherical": "Aspherical scatterers",
    "refinement": "Refinement",
    "building": "Building",
    "phasing": "Phasing",
    "training": "Training",
    "network": "Network",
}
#: Scripts that write tables, and modules that are run and never imported.
NOT_SHOWN = ("gen_", "worker", "batch_process")


def modules_of(room):
    """Names of the modules of a room."""
    package = importlib.import_module(f"phai_cctbx.{room}")
    found = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    return [
        module.name
        for module in found
        if not module.ispkg and not module.name.rpartition(".")[2].startswith(NOT_SHOWN)
    ]


def reference_page(room, title):
    """A page with the docstrings of a room."""
    lines = [f"# {title}", ""]
    for name in modules_of(room):
        lines += [
            f"## {name.removeprefix('phai_cctbx.')}",
            "",
            "```{eval-rst}",
            f".. automodule:: {name}",
            "   :members:",
            "```",
            "",
        ]
    return "\n".join(lines)


def parameters_page():
    """All parameters of all commands, as ``--show-defaults`` tells them with their meaning."""
    import iotbx.phil

    lines = [
        "# Parameters",
        "",
        "Every parameter of every command with its default; `--show-defaults` prints the values.",
        "",
    ]
    commands = Path(phai_cctbx.__file__).parent / "command_line"
    for path in sorted(commands.glob("[a-z]*.py")):
        module = importlib.import_module(f"phai_cctbx.command_line.{path.stem}")
        program = getattr(module, "Program", None)
        if program is None:
            continue
        master = iotbx.phil.parse(program.master_phil_str)
        lines += [
            f"## {program.program_name}",
            "",
            (module.__doc__ or "").strip(),
            "",
            "| parameter | meaning | default |",
            "|---|---|---|",
            *parameter_rows(master),
            "",
        ]
    return "\n".join(lines)


def parameter_rows(scope, prefix=""):
    """Rows of the table, one per parameter."""
    for item in scope.objects:
        name = prefix + item.name
        if item.is_scope:
            yield from parameter_rows(item, f"{name}.")
            continue
        value = " ".join(str(word) for word in item.words)
        choice = item.type is not None and item.type.phil_type == "choice"
        shown = value.replace("*", "\\*") if choice else value
        shown = "" if value == "None" else shown.replace("|", "\\|")
        yield f"| `{name}` | {item.help or ''} | {shown} |"


def generate(_app):
    """Write the generated pages."""
    REFERENCE.mkdir(exist_ok=True)
    pages = {room: reference_page(room, title) for room, title in ROOMS.items()}
    pages["parameters"] = parameters_page()
    pages["index"] = "\n".join(
        ["# Reference", "", "```{toctree}", ":maxdepth: 1", "", "parameters", *ROOMS, "```", ""]
    )
    for name, text in pages.items():
        path = REFERENCE / f"{name}.md"
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def skip_constants(_app, what, _name, member, skip, _options):
    """Constants are for the reader of the source."""
    is_code = inspect.isclass(member) or inspect.isroutine(member)
    return True if what == "module" and not is_code else skip


def keep_bars(_app, _what, _name, _obj, _options, lines):
    """The bars of |F| are no substitutions of reStructuredText."""
    for i, line in enumerate(lines):
        parts = line.split("``")
        parts[::2] = [part.replace("|", "\\|") for part in parts[::2]]
        lines[i] = "``".join(parts)


def setup(app):
    """Generate the pages when the builder begins."""
    app.connect("config-inited", lambda app, _config: generate(app))
    app.connect("autodoc-skip-member", skip_constants)
    app.connect("autodoc-process-docstring", keep_bars)
