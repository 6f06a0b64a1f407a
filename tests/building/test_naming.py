"""Atom names."""

# cctbx
from cctbx import crystal, xray

from phai_cctbx.building.naming import rename


def _methylamine_and_water():
    """CH3-NH2 with two of its hydrogens, and a lone oxygen, in a shuffled list."""
    symmetry = crystal.symmetry((10, 10, 10, 90, 90, 90), "P 1")
    structure = xray.structure(crystal_symmetry=symmetry)
    atoms = [
        ("H", (2.4, 2.9, 2.0)),
        ("O", (7.0, 7.0, 7.0)),
        ("C", (2.0, 2.0, 2.0)),
        ("H", (1.0, 2.0, 2.0)),
        ("N", (2.6, 1.0, 2.9)),
        ("H", (2.4, 1.2, 3.8)),
    ]
    for element, site in atoms:
        structure.add_scatterer(
            xray.scatterer(element, site=tuple(x / 10 for x in site), scattering_type=element)
        )
    return structure


def test_names_are_unique_and_hydrogens_follow_their_parents():
    labels = [s.label for s in rename(_methylamine_and_water()).scatterers()]
    assert len(set(labels)) == len(labels)
    assert labels[labels.index("C1") + 1 : labels.index("C1") + 3] == ["H1A", "H1B"]
    assert labels[labels.index("N1") + 1] == "HN1"
    assert "O1" in labels


def test_names_agree_with_elements():
    structure = rename(_methylamine_and_water())
    for scatterer in structure.scatterers():
        assert scatterer.label.startswith(scatterer.element_symbol())
    assert structure.scatterers().size() == 6
