"""Results to report on: a small refined phenol, and phases alone."""

from types import SimpleNamespace

import numpy as np
import pytest

# cctbx
from cctbx import crystal, xray
from cctbx.array_family import flex

from phai_cctbx.io.crystal_data import Composition, CrystalData
from phai_cctbx.phasing.normalisation import prepare
from phai_cctbx.phasing.result import PhasingResult
from phai_cctbx.programs.result_files import peak_structure
from phai_cctbx.refinement.completion import Step
from phai_cctbx.refinement.least_squares import prepare_scattering, refine

WARNINGS = ("a warning <first>", "another one")


def phenol():
    """C6H6O in P 21/c: a regular ring of carbon atoms 1.39 A from its centre."""
    symmetry = crystal.symmetry((7.2, 8.4, 9.1, 90, 104, 90), space_group_symbol="P 1 21/c 1")
    structure = xray.structure(crystal_symmetry=symmetry)
    orthogonal = np.linalg.qr(np.array([[1.0, 0.2, 0.4], [0.1, 1.0, -0.6], [0.3, 0.2, 1.0]]))[0]
    cell = symmetry.unit_cell()
    centre = np.array(cell.orthogonalize((0.22, 0.14, 0.31)))

    def add(label, radius, angle, u):
        flat = radius * np.array([np.cos(angle), np.sin(angle), 0.0])
        site = cell.fractionalize(tuple(centre + orthogonal @ flat))
        structure.add_scatterer(
            xray.scatterer(label, site=site, u=u, scattering_type=label.rstrip("0123456789"))
        )

    for i in range(6):
        add(f"C{i + 1}", 1.39, i * np.pi / 3, 0.04)
    add("O1", 2.76, 0.0, 0.05)
    for i in range(1, 6):
        add(f"H{i + 1}", 2.34, i * np.pi / 3, 0.06)
    return structure


def made_result(solution, d_min, phases_off):
    """A result as the pipeline gives it, from calculated intensities."""
    rng = np.random.default_rng(3)
    structure = phenol()
    f_calc = structure.structure_factors(d_min=d_min, anomalous_flag=False).f_calc()
    intensity = f_calc.norm().data().as_numpy_array()
    sigma = 0.03 * intensity + 0.01 * intensity.mean()
    observations = f_calc.customized_copy(
        data=flex.double(intensity + rng.normal(0, sigma)), sigmas=flex.double(sigma)
    ).set_observation_type_xray_intensity()
    composition = Composition({"C": 24.0, "H": 24.0, "O": 4.0}, "UNIT")
    prepared = prepare(observations, composition=composition.unit_cell_contents)
    amplitudes, f_calc = prepared.f_obs.map_to_asu().common_sets(f_calc.map_to_asu())
    flipped = rng.random(f_calc.size()) < phases_off
    phase_factor = np.exp(1j * f_calc.phases().data().as_numpy_array())
    signed = np.where(flipped, -1.0, 1.0) * amplitudes.data().as_numpy_array()
    f_phased = f_calc.customized_copy(data=flex.complex_double(signed * phase_factor), sigmas=None)
    certainty = np.clip(rng.normal(1 - 1.5 * phases_off, 0.15, f_calc.size()), 0, 1)
    phasing = PhasingResult(
        f_phased,
        f_phased.customized_copy(data=flex.double(certainty)),
        figures_of_merit={"n_agreeing": 3, "n_starts": 8, "cc_held_out": 0.61},
        strategy="charge_flipping",
    )
    data = CrystalData(
        title="phenol, simulated",
        crystal_symmetry=structure.crystal_symmetry(),
        observations=observations,
        composition=composition,
        z=4,
        wavelength=0.71073,
        radiation="xray",
        provenance=(),
        rejected=(),
        shelx_header=None,
    )
    return SimpleNamespace(
        solved=solution is not None,
        solved_by="confidence" if solution is None else "r1",
        known=None,
        data=data,
        prepared=prepared,
        phasing=phasing,
        solution=solution and solution(structure, prepared.f_sq.map_to_asu()),
        warnings=WARNINGS,
        confidence=phasing.expected_r,
        d_min=prepared.f_obs.d_min(),
        space_group="P 1 21/c 1",
        formula="C6 H6 O",
        n_atoms=7,
        n_hydrogens=5,
        peaks=None if solution else peak_structure(prepared, phasing, {"C": 24.0, "O": 4.0}),
    )


def refined(structure, f_sq):
    """A solution from one refinement of the true structure."""
    structure = structure.deep_copy_scatterers()
    prepare_scattering(structure, "xray", 0.71073)
    found = refine(structure, f_sq, n_cycles=3)
    history = [Step(f"step {i}", r1, 7) for i, r1 in enumerate((0.4, 0.2, 0.1, found.r1))]
    return SimpleNamespace(
        refinement=found,
        xray_structure=found.xray_structure,
        solved=True,
        history=tuple(history),
        weighting=(0.1, 0.0),
        extinction=None,
        absolute_structure=SimpleNamespace(
            x=(0.03, 0.06, "refined"), hooft=0.02, hooft_esd=0.05, n_pairs=120
        ),
        twin=None,
        scatterers="independent spherical atoms",
        difference_peak=0.2,
        difference_hole=-0.2,
        difference_rms=0.05,
        **{
            name: getattr(found, name)
            for name in ("r1", "r1_all", "wr2", "goof", "n_observed", "n_reflections",
                         "n_parameters", "n_restraints", "max_shift_over_esd", "scale_factor")
        },
    )  # fmt: skip


@pytest.fixture(scope="session")
def solved_result():
    """Result with a refined structure."""
    return made_result(refined, d_min=0.9, phases_off=0.05)


@pytest.fixture(scope="session")
def phased_result():
    """Result with phases alone."""
    return made_result(None, d_min=1.8, phases_off=0.15)
