"""The cost of the network on artificial amplitudes."""

import pytest

from phai_cctbx.command_line.benchmark import run
from phai_cctbx.programs import benchmark_cost
from phai_cctbx.programs.benchmark_settings import Settings


def test_amplitudes_are_complete_to_the_limit():
    f_obs = benchmark_cost.random_amplitudes("P 1 21/c 1", 500.0, 2.0, seed=0)
    assert f_obs.unit_cell().volume() == pytest.approx(500.0)
    assert f_obs.completeness() == 1.0
    # half of the sphere of radius 1/d, over the two operations of 2/m that keep Friedel pairs apart
    assert f_obs.size() == pytest.approx(500.0 * 4.19 / 8.0 / 4.0, rel=0.15)


@pytest.mark.slow
def test_a_pass_is_far_cheaper_than_one_of_phai():
    entry = next(e for e in benchmark_cost.entries() if e.id == "P 1 21/c 1, 500")
    row = benchmark_cost.run(entry, Settings())
    assert row.details["phai_pass_seconds"] > 10.0 * row.details["pass_seconds"] > 0.0
    assert row.details["memory_gb"] < 2.0
    text = "\n".join(benchmark_cost.table([row]))
    assert f"{1000 * row.details['pass_seconds']:.2f}" in text


def test_it_takes_no_data(tmp_path, capsys):
    assert run(["job=cost", f"data={tmp_path}"]) == 1
    assert "makes its own data" in capsys.readouterr().err


