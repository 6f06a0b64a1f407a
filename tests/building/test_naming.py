"""Atom names."""

# cctbx
from cctbx import crystal, xray

from phai_cctbx.building.naming import hydrogen_names, rename


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


def test_hydrogen_names_tell_the_parent():
    assert hydrogen_names("C12", "C", 1, set()) == ["H12"]
    assert hydrogen_names("N3", "N", 2, set()) == ["HN3A", "HN3B"]


def test_hydrogen_names_are_never_longer_than_shelx_reads():
    used = set()
    for parent, element, n in [("O10", "O", 2), ("C10", "C", 3), ("N10", "N", 2), ("C100", "C", 3)]:
        names = hydrogen_names(parent, element, n, used)
        assert len(names) == n
        assert all(len(name) <= 4 for name in names)
        assert not used & set(names)
        used.update(names)
    assert {"H10A", "H10B"} <= used
