import pytest

# cctbx
from cctbx import crystal, miller
from cctbx.array_family import flex

from phai_cctbx.phasing.result import PhasingResult


@pytest.fixture
def f_phased():
    symmetry = crystal.symmetry((5, 6, 7, 80, 95, 100), "P 1")
    indices = flex.miller_index([(1, 0, 0), (0, 1, 0), (1, 2, 3)])
    return miller.array(
        miller.set(symmetry, indices, anomalous_flag=False),
        flex.complex_double([3 + 4j, 1j, 0]),
    )


def test_expected_r_weights_the_confidence_by_f_squared(f_phased):
    confidence = f_phased.array(data=flex.double([0.9, 0.1, 0.5]))
    result = PhasingResult(f_phased, confidence, strategy="neural", seed=3)
    assert result.expected_r == pytest.approx((25 * 0.9 + 1 * 0.1) / 26)


def test_confidence_must_belong_to_the_same_reflections(f_phased):
    confidence = f_phased.select(flex.size_t([1, 0, 2])).array(data=flex.double(3, 0.5))
    with pytest.raises(ValueError, match="same reflections"):
        PhasingResult(f_phased, confidence)


def test_amplitudes_alone_are_no_phasing_result(f_phased):
    amplitudes = f_phased.as_amplitude_array()
    with pytest.raises(TypeError, match="complex"):
        PhasingResult(amplitudes, amplitudes)
