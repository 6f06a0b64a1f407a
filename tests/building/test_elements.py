"""Elements from scattering powers, geometry and composition."""

from phai_cctbx.building.elements import Site, assign_elements, geometry_cost


def _sites(powers, weight=1.0):
    return [Site(z=z, z_esd=0.1, weight=weight) for z in powers]


def test_exact_powers_give_the_elements():
    assert assign_elements(_sites([6, 7, 8, 9, 16, 29]), relative_error=0.02) == [
        "C", "N", "O", "F", "S", "Cu",
    ]  # fmt: skip


def test_composition_settles_what_powers_leave_open():
    composition = {"C": 8, "N": 4, "H": 12}
    assert assign_elements(_sites([6.3, 6.6, 6.2]), composition, order=4, relative_error=0.08) == [
        "C", "N", "C",
    ]  # fmt: skip


def test_strong_evidence_beats_a_wrong_composition():
    composition = {"C": 12, "H": 24}
    assert (
        assign_elements(_sites([6, 6, 17.1]), composition, order=4, relative_error=0.03)[2] == "Cl"
    )


def test_common_scale_is_found():
    powers = [1.12 * z for z in (6, 6, 6, 7, 8, 6, 6, 16)]
    composition = {"C": 20, "N": 4, "O": 4, "S": 4}
    assert assign_elements(
        _sites(powers), composition, order=4, fit_scale=True, relative_error=0.03
    ) == ["C", "C", "C", "N", "O", "C", "C", "S"]


def test_atom_on_an_inversion_centre_counts_half():
    sites = [Site(z=25.0, z_esd=0.2, weight=0.5), *_sites([6, 6, 8])]
    assert assign_elements(sites, {"Mn": 1, "C": 4, "O": 2}, order=2) == ["Mn", "C", "C", "O"]


def _terminal(distance):
    """A carbonyl-like centre with three neighbours; the terminal atom is at a distance."""
    others = ((2, 1.5), (3, 1.5))
    return [
        Site(6.9, 0.1, 1.0, ((1, distance),)),
        Site(6.0, 0.1, 1.0, ((0, distance), *others)),
        Site(6.0, 0.1, 1.0, ((1, 1.5),)),
        Site(6.0, 0.1, 1.0, ((1, 1.5),)),
    ]


def test_short_terminal_bond_means_oxygen_long_one_carbon():
    short, long = _terminal(1.21), _terminal(1.52)
    rest = ["C", "C", "C"]
    assert geometry_cost(0, ["O", *rest], short) < geometry_cost(0, ["C", *rest], short)
    assert geometry_cost(0, ["C", *rest], long) < geometry_cost(0, ["O", *rest], long)


def test_halogens_do_not_bridge_carbon():
    sites = [
        Site(9.0, 0.1, 1.0, ((1, 1.35), (2, 1.35))),
        Site(6.0, 0.1, 1.0, ((0, 1.35),)),
        Site(6.0, 0.1, 1.0, ((0, 1.35),)),
    ]
    assert geometry_cost(0, ["F", "C", "C"], sites) >= 5
