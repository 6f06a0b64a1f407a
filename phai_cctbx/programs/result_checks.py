"""What other programs of cctbx make of result files: `iotbx.cif.validate` and `smtbx.refine`."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

# cctbx
import iotbx.cif
from cctbx import sgtbx, xray
from iotbx.cif import validation
from iotbx.cif.builders import float_from_string
from iotbx.reflection_file_reader import any_reflection_file
from iotbx.shelx import parse_smtbx_refinement_model
from scitbx.lstbx import normal_eqns_solving
from smtbx import refinement
from smtbx.refinement import constraints, least_squares

from phai_cctbx.refinement.least_squares import OBSERVED_I_OVER_SIGMA, prepare_scattering
from phai_cctbx.refinement.parts import with_shared_occupancies

#: The dictionary of small-molecule CIFs.
CORE_DICTIONARY = "cif_core.dic"
#: The item of the Flack parameter.
FLACK = "_refine_ls_abs_structure_Flack"
#: Cycles and limits of smtbx.refine by default.
REFINE_CYCLES, REFINE_THRESHOLD = 8, 1e-7


def cif_faults(path) -> list[str]:
    """Errors that `iotbx.cif.validate` reports with the core dictionary, none for a valid CIF.

    The range of the Flack parameter is that of the dictionary's text, from -3 to 1 + 3 standard
    uncertainties; the validator knows but 0 to 1.

    Parameters
    ----------
    path : path-like
    """
    told = io.StringIO()
    model = iotbx.cif.reader(file_path=str(path)).model()
    dictionary = validation.smart_load_dictionary(name=CORE_DICTIONARY)
    model.validate(dictionary, show_warnings=False, out=told)
    lines = [line for line in told.getvalue().splitlines() if line.strip()]
    return [line for line in lines if not (FLACK in line and _allowed_flack(model))]


def _allowed_flack(model) -> bool:
    """Whether x is within three esds of 0 to 1, as the dictionary allows in words."""
    (block,) = model.blocks.values()
    text = block[FLACK]
    x = float_from_string(text)
    digits = text.partition(".")[2].partition("(")[0]
    esd = float(text.partition("(")[2].rstrip(")") or 0) / 10 ** len(digits)
    return -3 * esd <= x <= 1 + 3 * esd


def refined_again(res, hkl, radiation: str = "xray", d_min: float | None = None) -> float:
    """R1 (I > 2 sigma) after `smtbx.refine` has refined a .res against its .hkl.

    Its steps, with what it leaves out of the file as shipped: systematic absences go, equivalents
    are merged as by SHELXL, resolution limit, extinction and twin law count, and scattering factors
    are those of the radiation. The occupancies of parts are tied as the free variables say: its
    chain of pairs gives the second atom of a second part the occupancy of the first part.

    Parameters
    ----------
    res, hkl : path-like
    radiation : {"xray", "electron", "neutron"}
    d_min : float, optional
        Resolution limit in A.
    """
    # iotbx does not know the instruction that SHELXL wants before SFAC for neutrons
    lines = [line for line in Path(res).read_text().splitlines(True) if line.strip() != "NEUT"]
    builder = parse_smtbx_refinement_model(file=io.StringIO("".join(lines)), strictly_shelxl=False)
    structure = builder.structure
    f_sq = (
        any_reflection_file(f"{Path(hkl)}=hklf4")
        .as_miller_arrays(crystal_symmetry=structure)[0]
        .eliminate_sys_absent()
        .merge_equivalents(algorithm="shelx")
        .array()
    )
    if d_min is not None:
        f_sq = f_sq.resolution_filter(d_min=d_min)
    prepare_scattering(structure, radiation, builder.wavelength_in_angstrom)
    for scatterer in structure.scatterers():
        scatterer.flags.set_grad_site(True)
        scatterer.flags.set_grad_u_iso(scatterer.flags.use_u_iso())
        scatterer.flags.set_grad_u_aniso(scatterer.flags.use_u_aniso())
    instructions = _instructions(res)
    twin = _twin(instructions)
    model = refinement.model(
        f_sq.as_xray_observations(twin_components=twin),
        structure,
        with_shared_occupancies(builder.constraints),
        builder.restraints_manager,
        builder.weighting_scheme,
        builder.temperature_in_celsius,
        builder.conformer_indices,
        builder.wavelength_in_angstrom,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", constraints.ConflictingConstraintWarning)
        reparametrisation = constraints.reparametrisation(
            structure,
            model.constraints,
            model.connectivity_table,
            twin_fractions=twin,
            extinction=_extinction(instructions, structure, builder.wavelength_in_angstrom),
        )
    equations = least_squares.crystallographic_ls(
        model.fo_sq,
        reparametrisation,
        restraints_manager=model.restraints_manager,
        weighting_scheme=model.weighting_scheme,
    )
    normal_eqns_solving.levenberg_marquardt_iterations(
        non_linear_ls=equations,
        n_max_iterations=REFINE_CYCLES,
        gradient_threshold=REFINE_THRESHOLD,
        step_threshold=REFINE_THRESHOLD,
    )
    return equations.r1_factor(OBSERVED_I_OVER_SIGMA)[0]


def _instructions(res) -> dict[str, list[float]]:
    """Numbers after EXTI, TWIN and BASF of a .res."""
    found = {}
    for line in Path(res).read_text().splitlines():
        if line[:4] in ("EXTI", "TWIN", "BASF"):
            found[line[:4]] = [float(word) for word in line.split()[1:]]
    return found


def _twin(instructions) -> tuple:
    """The second domain as smtbx takes it: SHELX writes the transposed matrix."""
    if "BASF" not in instructions:
        return ()
    matrix = [int(x) for x in instructions.get("TWIN") or (-1, 0, 0, 0, -1, 0, 0, 0, -1)]
    law = sgtbx.rot_mx(matrix[:9]).transpose()
    return (xray.twin_component(law, instructions["BASF"][0], True),)


def _extinction(instructions, structure, wavelength):
    """The extinction correction as smtbx takes it, None where the file has none."""
    if "EXTI" not in instructions:
        return None
    correction = xray.shelx_extinction_correction(
        structure.unit_cell(), wavelength, instructions["EXTI"][0]
    )
    correction.grad = True
    return correction
