"""From imperfect phases to finished structures, on measured data."""

import numpy as np
import pytest

# cctbx
import iotbx.cif
from cctbx import miller
from cctbx.array_family import flex

from phai_cctbx.building.connectivity import element_of
from phai_cctbx.io.read import read
from phai_cctbx.phasing.normalisation import prepare
from phai_cctbx.phasing.result import PhasingResult
from phai_cctbx.refinement.comparison import compare
from phai_cctbx.refinement.completion import complete_structure


def _phases(f_obs, reference, share_wrong, seed=1, d_min=None):
    """Phases of a reference with a share of them random."""
    if d_min:
        f_obs = f_obs.resolution_filter(d_min=d_min)
    f_calc = f_obs.structure_factors_from_scatterers(reference, algorithm="direct").f_calc()
    generator = np.random.default_rng(seed)
    error = np.where(generator.random(f_obs.size()) < share_wrong, np.pi, 0.0)
    acentric = ~np.array(f_obs.centric_flags().data())
    error[acentric] *= generator.random(acentric.sum()) * 2 - 1
    phases = flex.arg(f_calc.data()) + flex.double(error)
    f_phased = miller.array(miller_set=f_obs, data=flex.polar(f_obs.data(), phases))
    confidence = f_phased.customized_copy(data=flex.double(f_phased.size(), 1 - share_wrong))
    return PhasingResult(f_phased=f_phased, confidence=confidence)


@pytest.fixture(scope="module")
def thpp(thpp_folder):
    """Measured data and published model of C10H10F2N4."""
    data = read(thpp_folder / "thpp.ins")
    structures = iotbx.cif.reader(str(thpp_folder / "thpp.cif")).build_crystal_structures()
    return data, prepare(data.observations), next(iter(structures.values()))


@pytest.fixture(scope="module")
def thpp_solution(thpp):
    data, prepared, reference = thpp
    return complete_structure(
        prepared.f_sq,
        _phases(prepared.f_obs, reference, 0.2),
        data.composition.unit_cell_contents,
        wavelength=data.wavelength,
    )


def test_thpp_is_complete(thpp, thpp_solution):
    comparison = compare(thpp_solution.xray_structure, thpp[2])
    assert thpp_solution.solved
    assert comparison.n_missing == 0
    # C7A is disordered in this model (0.88); its minor part is not compared
    assert comparison.n_extra == 0
    (group,) = thpp_solution.disorder
    assert group.occupancy == pytest.approx(0.88, abs=0.01)
    assert comparison.wrong_elements == 0
    assert comparison.max_distance < 0.1


def test_thpp_refines_as_well_as_published(thpp_solution):
    assert thpp_solution.r1_without_hydrogens < 0.09
    assert thpp_solution.r1 < 0.055
    assert thpp_solution.goof == pytest.approx(1.0, abs=0.15)
    assert thpp_solution.max_shift_over_esd < 0.05
    assert thpp_solution.covariance is not None


def test_thpp_carries_its_ten_hydrogens(thpp_solution):
    scatterers = thpp_solution.xray_structure.scatterers()
    hydrogens = [s.occupancy for s in scatterers if element_of(s) == "H"]
    assert sum(hydrogens) == pytest.approx(10)
    # those of two disordered CH2 are there twice
    assert sum(len(group.hydrogens) for group in thpp_solution.riding) == len(hydrogens) == 14
    contents = {"C": 40, "H": 40, "F": 8, "N": 16}
    assert thpp_solution.composition == pytest.approx(contents)


def test_composition_is_not_needed(thpp):
    data, prepared, reference = thpp
    solution = complete_structure(
        prepared.f_sq.resolution_filter(d_min=0.9),
        _phases(prepared.f_obs, reference, 0.2),
        None,
        wavelength=data.wavelength,
    )
    assert compare(solution.xray_structure, reference).wrong_elements <= 1
    assert solution.r1 < 0.06


def test_shuffled_intensities_are_not_solved(thpp):
    """Intensities of other reflections: no structure explains them, and the verdict says so."""
    data, prepared, reference = thpp
    f_sq = prepared.f_sq.resolution_filter(d_min=1.0)
    order = flex.size_t(np.random.default_rng(0).permutation(f_sq.size()).tolist())
    shuffled = f_sq.customized_copy(
        data=f_sq.data().select(order), sigmas=f_sq.sigmas().select(order)
    ).set_observation_type_xray_intensity()
    solution = complete_structure(
        shuffled, _phases(prepared.f_obs, reference, 0.2), data.composition.unit_cell_contents
    )
    assert not solution.solved
    assert any("Not a solution" in warning for warning in solution.warnings)


MEASURED = {
    "fe_p1bar": "iron on an inversion centre among light atoms",
    "cod_2016452": "half a molecule in the asymmetric unit",
    "zzuli2": "copper and chlorine",
    "lala_olex": "an acentric crystal",
    "urea_xharpy": "every atom on a special position",
}


@pytest.mark.parametrize("name", MEASURED)
def test_measured_structures_are_completed(shared_data, name):
    folder = shared_data / "measured" / name
    data = read(folder / f"{name}.ins")
    prepared = prepare(data.observations)
    structures = iotbx.cif.reader(str(folder / f"{name}_ref.cif")).build_crystal_structures()
    reference = next(iter(structures.values()))
    solution = complete_structure(
        prepared.f_sq,
        _phases(prepared.f_obs, reference, 0.25, d_min=1.0),
        data.composition.unit_cell_contents,
        wavelength=data.wavelength,
    )
    comparison = compare(solution.xray_structure, reference)
    assert solution.solved
    assert solution.r1 < 0.045
    assert (comparison.n_missing, comparison.n_extra, comparison.wrong_elements) == (0, 0, 0)
    assert comparison.max_distance < 0.1
    assert comparison.missing_ch == 0
