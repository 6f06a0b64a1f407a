"""Solving under the file names of SHELXT or SHELXS, for programs that call a solver by base name.

``shelxt``: BASENAME_a.res and BASENAME.lxt, replaced as SHELXT replaces them. ``shelxs``:
BASENAME.res and BASENAME.lst; since BASENAME.res may be a refined structure, it is replaced only
with ``output.overwrite=True``.
"""

from __future__ import annotations

import logging
import re
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

# cctbx
from libtbx.utils import Sorry

from phai_cctbx.io.atomic_file import write_text
from phai_cctbx.programs import pipeline
from phai_cctbx.programs.output_files import OutputFiles
from phai_cctbx.version import __version__

logger = logging.getLogger(__name__)

PHIL = """
output {
  style = *phai shelxt shelxs
    .type = choice
    .help = File names and listing of a run: all files of phai_cctbx, or those of SHELXT or SHELXS
}
"""

#: Style -> (what follows the base name in the name of the .res, extension of the listing).
STYLES = {"shelxt": ("_a", "lxt"), "shelxs": ("", "lst")}
#: Endings that belong to files and not to a base name.
INPUT_FILES = (".ins", ".res", ".hkl", ".cif", ".fcf", ".mtz")

#: A switch of SHELXT: a hyphen, a letter, perhaps a value.
_SWITCH = re.compile(r"-[A-Za-z][^=]*")
#: Line of the report with the names of the files.
_RESULTS = "Results"

#: The columns of SHELXT's table of solutions, which readers cut at fixed places; what only SHELXT
#: computes is left blank.
_TABLE_HEAD = "    R1 Rweak   Alpha Orientation     Space group  Flack_x File            Formula"
_TABLE_ROW = "{r1:6s} {rweak:5s} {alpha:7s} {turn:15s} {group:12s} {flack:7s} {file:15s} {formula}"


def solve_like_shelx(style: str, path, directory=".", prefix=None, overwrite=False, **options):
    """Solve, and write the two files of the style.

    Parameters
    ----------
    style : {"shelxt", "shelxs"}
    path, directory, prefix, overwrite, options
        As of `pipeline.solve`; the prefix is the base name of `path` by default.

    Returns
    -------
    pipeline.SolveResult
        With ``files`` those of the style: ``"res"`` and ``"lxt"`` or ``"lst"``.

    Raises
    ------
    libtbx.utils.Sorry
        As `pipeline.solve`.
    """
    if not path:
        raise Sorry("No input: name a file, or a base name.")
    base = prefix or base_name(path)
    suffix, extension = STYLES[style]
    may_replace = overwrite or style == "shelxt"
    res = OutputFiles(base + suffix, ["res"], directory, may_replace)
    listing = OutputFiles(base, [extension], directory, may_replace)
    names = {**res.paths, **listing.paths}
    with tempfile.TemporaryDirectory(dir=directory, prefix=".phai_") as folder:
        with _unsaid_names():
            result = pipeline.solve(
                path, directory=folder, prefix=base, **{"report": False, **options}
            )
        res_text = with_remarks(result.files["res"].read_text(encoding="utf-8"), remarks(result))
        log_text = result.files["log"].read_text(encoding="utf-8")
    write_text(names["res"], res_text)
    write_text(names[extension], listing_text(result, names["res"].name, log_text))
    logger.info("%-16s %s", _RESULTS, ", ".join(path.name for path in names.values()))
    return replace(result, files=names)


@contextmanager
def _unsaid_names():
    """Keep the names of the temporary files out of the log."""

    def is_kept(record):
        return not record.getMessage().startswith(_RESULTS)

    pipeline.logger.addFilter(is_kept)
    try:
        yield
    finally:
        pipeline.logger.removeFilter(is_kept)


def base_name(path) -> str:
    """The base name that a run is called by: the file name without an ending of input files."""
    path = Path(path)
    return path.stem if path.suffix.lower() in INPUT_FILES else path.name


def without_switches(arguments: list[str]) -> list[str]:
    """Arguments of a call of SHELXT without its switches, which have no meaning here.

    Callers add switches such as ``-a0.3`` or ``-s"P21/c"`` of their own accord. Options of
    phai_cctbx begin with two hyphens; ``-h`` and ``-v`` alone tell and stop, as everywhere.
    """
    ignored = [a for a in arguments if _SWITCH.fullmatch(a) and a not in ("-h", "-v")]
    if ignored:
        sys.stderr.write(f"Switches of SHELXT that have no meaning here: {' '.join(ignored)}\n")
    return [a for a in arguments if a not in ignored]


def remarks(result) -> list[str]:
    """What the .res says of its solution, in the form that SHELXT uses."""
    r1 = "not refined" if result.r1 is None else f"R1 {result.r1:.3f}"
    verdict = "solved" if result.solved else "NOT SOLVED, the best candidate"
    return [
        f"Solution 1  {r1}, confidence {result.confidence:.3f}, {result.space_group}",
        f"phai_cctbx {__version__}: {verdict}, formula {result.formula}",
    ]


def with_remarks(res_text: str, lines: list[str]) -> str:
    """A .res with REM lines after its title."""
    title, _, rest = res_text.partition("\n")
    return "\n".join([title, *(f"REM {line}"[:80] for line in lines), rest])


def _flack(result) -> str:
    """The Flack parameter, empty where there is none."""
    absolute = result.solution and result.solution.absolute_structure
    return "" if not absolute else f"{absolute.x[0]:.2f}"


def listing_text(result, res_name: str, log_text: str) -> str:
    """The listing: the log of the run, and the table of solutions as SHELXT prints it."""
    row = _TABLE_ROW.format(
        r1="" if result.r1 is None else f"{result.r1:6.3f}",
        rweak="",
        alpha="",
        turn="as input",
        group=result.space_group.replace(" ", ""),
        flack=_flack(result),
        file=Path(res_name).stem,
        formula=result.formula,
    )
    end = "Assignment of elements: see the .res" if result.solved else "Not solved."
    return "\n".join([log_text.rstrip(), "", _TABLE_HEAD, row.rstrip(), "", end, ""])
