"""Simulated data sets of published models: the .ins and .hkl of a kinematic experiment.

They stand in where measured data lack, for electrons and neutrons above all.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

# cctbx
from cctbx import miller
from cctbx.array_family import flex

from phai_cctbx.io.shelx_header import build_header
from phai_cctbx.io.write_hkl import hkl_text
from phai_cctbx.programs.benchmark_entries import reference_structure
from phai_cctbx.refinement.least_squares import prepare_scattering

#: Wavelengths, A: Mo K alpha, electrons of 200 keV, thermal neutrons.
WAVELENGTHS = {"xray": 0.71073, "electron": 0.02508, "neutron": 1.0}
#: Resolution (A) where none is asked for: what most structures are measured to.
D_MIN = 0.84
#: sigma^2 = (this times I)^2 + (that times <I>)^2.
RELATIVE_SIGMA, SIGMA_OVER_MEAN = 0.03, 0.01
#: The strongest intensity: it fits into the columns of HKLF 4.
STRONGEST = 9000.0


def simulate(model_path, folder, radiation: str = "xray", d_min=None, seed: int = 0) -> Path:
    """Write the data set of a model and return the path of its .ins.

    Gaussian errors, complete to the resolution, Friedel mates apart in acentric crystals.

    Parameters
    ----------
    model_path : path-like
        CIF of the model.
    folder : path-like
    radiation : {"xray", "electron", "neutron"}
    d_min : float, optional
        A.
    seed : int
        Of the errors.
    """
    structure = reference_structure(model_path)
    wavelength = WAVELENGTHS[radiation]
    prepare_scattering(structure, radiation, wavelength if radiation == "xray" else None)
    anomalous = radiation == "xray" and not structure.space_group().is_centric()
    f_calc = (
        miller.build_set(structure, anomalous, d_min or D_MIN)
        .structure_factors_from_scatterers(structure, algorithm="direct")
        .f_calc()
    )
    exact = flex.norm(f_calc.data()).as_numpy_array()
    sigmas = np.hypot(RELATIVE_SIGMA * exact, SIGMA_OVER_MEAN * exact.mean())
    intensities = exact + np.random.default_rng(seed).normal(0, sigmas)
    scale = STRONGEST / intensities.max()
    f_sq = f_calc.customized_copy(
        data=flex.double(intensities * scale), sigmas=flex.double(sigmas * scale)
    ).set_observation_type_xray_intensity()
    contents = structure.unit_cell_content()
    contents = {element.strip(): n for element, n in contents.items()}
    header, _ = build_header(
        title=Path(model_path).stem,
        unit_cell=structure.unit_cell(),
        space_group=structure.space_group(),
        wavelength=wavelength,
        z=structure.space_group().order_z(),
        contents=contents,
        elements=list(contents),
        dispersion={},
        radiation=radiation,
    )
    ins = Path(folder, f"{Path(model_path).stem}.ins")
    ins.write_text("\n".join([*header, "HKLF 4", "END", ""]))
    ins.with_suffix(".hkl").write_text(hkl_text(f_sq))
    return ins
