"""Batches: which sets there are, what becomes of bad ones, of crashes and of killed workers."""

import os
import shutil
import signal

import pytest

# cctbx
from libtbx.utils import Sorry

from phai_cctbx.command_line.batch import run
from phai_cctbx.programs import batch_worker
from phai_cctbx.programs.batch_rows import (
    CRASHED,
    NOT_SOLVED,
    REFUSED,
    SOLVED,
    TIMED_OUT,
    SetRow,
    read_rows,
    write_rows,
)
from phai_cctbx.programs.batch_sets import list_sets
from phai_cctbx.programs.batch_summary import summary_page
from phai_cctbx.programs.batch_worker import Job, solve_set

#: Phases alone from few reflections: what a set costs is the start of its process.
SMALL = ("d_min=2.0", "strategy=neural", "n_starts=1")
SMALL_EFF = "data.d_min = 2.0\nphasing.strategy = neural\nphasing.n_starts = 1\n"


@pytest.fixture
def sets(thpp_folder, tmp_path):
    """Function: names -> folder with a thpp data set of each name."""

    def make(*names):
        for name in names:
            folder = tmp_path / "sets" / name
            folder.mkdir(parents=True)
            for extension in ("ins", "hkl"):
                shutil.copy(thpp_folder / f"thpp.{extension}", folder / f"x.{extension}")
        return tmp_path / "sets"

    return make


@pytest.fixture
def job(sets, tmp_path):
    """Function: id -> a job of that data set."""
    parameters = tmp_path / "batch.eff"
    parameters.write_text(SMALL_EFF)

    def make(name, **options):
        return Job(
            id=f"{name}/x",
            path=str(sets(name) / name / "x.ins"),
            results=str(tmp_path / "out" / name / "x"),
            base=str(tmp_path / "out"),
            parameters=str(parameters),
            **options,
        )

    return make


def test_sets_are_named_by_their_place(tmp_path):
    names = ("a/a.ins", "b/c/x.INS", "b/c/x.cif", "y.ins", "y_phai.ins", "out/a/a.ins", "a/a.hkl")
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = list_sets(tmp_path, "*.ins", results=tmp_path / "out")
    assert [each.id for each in found] == ["a", "b/c/x", "y"]
    assert found[1].path == tmp_path / "b" / "c" / "x.INS"
    (tmp_path / "a.ins").touch()
    same = list_sets(tmp_path, "a.ins", results=tmp_path / "out")
    assert {each.id for each in same} == {"a.ins", "a/a.ins"}
    everything = list_sets(tmp_path, "x.*", results=tmp_path)
    assert [each.id for each in everything] == ["b/c/x.INS", "b/c/x.cif"]
    with pytest.raises(Sorry, match=r"no \*\.mtz"):
        list_sets(tmp_path, "*.mtz")
    with pytest.raises(Sorry, match="no such folder"):
        list_sets(tmp_path / "none", "*.ins")


def test_the_table_reads_back_what_it_was_given(tmp_path):
    rows = [
        SetRow("a/x", SOLVED, space_group="P 1 21/c 1", r1=0.0312, n_atoms=16, attempts=1),
        SetRow("b", REFUSED, message='line 3: found "x, y"\nnot a number'),
    ]
    path = tmp_path / "batch.csv"
    write_rows(path, rows)
    assert read_rows(path) == rows
    path.write_text("name,value\na,1\n")
    with pytest.raises(Sorry, match=r"batch\.csv: not the table of a batch"):
        read_rows(path)


def test_the_page_escapes_what_files_say():
    assert "a &amp; b" in summary_page("sets", [SetRow("a & b", SOLVED, results="a & b/x")], 1)
    rows = [SetRow("a", REFUSED, message="<script>alert(1)</script>")]
    page = summary_page("sets", rows, 2)
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page
    assert "running" in page and 'http-equiv="refresh"' in page
    assert 'http-equiv="refresh"' not in summary_page("sets", rows, 1)


def test_a_process_that_crashes_is_begun_again_and_then_given_up(job, tmp_path, monkeypatch):
    crashing = tmp_path / "crashing.py"
    crashing.write_text(
        "import os, signal\nopen('begun', 'a').write('x')\nos.kill(os.getpid(), signal.SIGSEGV)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(batch_worker, "PROCESS", "crashing")
    row = solve_set(job("a", retries=2))
    assert (row.state, row.attempts) == (CRASHED, 3)
    assert str(-signal.SIGSEGV) in row.message
    assert (tmp_path / "out" / "a" / "x" / "begun").read_text() == "xxx"


def test_a_set_that_does_not_end_is_stopped(job, tmp_path, monkeypatch):
    (tmp_path / "endless.py").write_text("import time\ntime.sleep(600)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(batch_worker, "PROCESS", "endless")
    row = solve_set(job("a", time_limit=1.0, retries=2))
    assert (row.state, row.attempts) == (TIMED_OUT, 1)
    assert "1 s" in row.message


@pytest.mark.slow
def test_all_sets_are_accounted_for_when_a_worker_is_killed(job, caplog):
    pytest.importorskip("distributed", reason="Dask is not installed")
    from phai_cctbx.programs.batch_cluster import check_workers, cluster_client, run_jobs

    jobs = [job(name) for name in ("a", "b", "c", "d")]
    rows = []
    with cluster_client(n_workers=2) as client:
        assert check_workers(client, jobs[0].base.rpartition("/")[0]) == 2
        for row in run_jobs(client, jobs):
            if not rows:
                address, pid = next(iter(client.run(os.getpid).items()))
                os.kill(pid, signal.SIGKILL)
            rows.append(row)
    assert f"The worker {address} was lost" in caplog.text
    assert sorted(row.id for row in rows) == ["a/x", "b/x", "c/x", "d/x"]
    assert {row.state for row in rows} <= {SOLVED, NOT_SOLVED}
    assert {row.space_group for row in rows} == {"P 1 21/n 1"}
    assert len({row.confidence for row in rows}) == 1


@pytest.mark.slow
def test_the_command_goes_on_where_it_was(sets, tmp_path, monkeypatch, capsys):
    pytest.importorskip("distributed", reason="Dask is not installed")
    monkeypatch.chdir(tmp_path)
    folder = sets("good", "bad")
    hkl = folder / "bad" / "x.hkl"
    kept = hkl.read_bytes()
    hkl.write_bytes(b"\x00\x01binary")
    arguments = [str(folder), "workers=1", *SMALL]
    assert run(arguments) == 3
    first = {row.id: row for row in read_rows("phai_batch/batch.csv")}
    assert first["bad/x"].state == REFUSED and "x.hkl" in first["bad/x"].message
    assert first["good/x"].state in (SOLVED, NOT_SOLVED)
    results = tmp_path / "phai_batch" / first["good/x"].results
    assert results.with_suffix(".res").is_file()
    assert "1 refused" in capsys.readouterr().out

    assert run(arguments) == 1
    assert "resume=True" in capsys.readouterr().err
    assert run([*arguments, "resume=True", "seed=3"]) == 1
    assert "other parameters" in capsys.readouterr().err

    hkl.write_bytes(kept)
    assert run([*arguments, "resume=True"]) in (0, 3)
    assert "1 sets to run, 1 kept" in capsys.readouterr().out
    second = {row.id: row for row in read_rows("phai_batch/batch.csv")}
    assert second["good/x"] == first["good/x"]
    assert second["bad/x"].confidence == first["good/x"].confidence
    assert not list((tmp_path / "phai_batch").rglob(".*"))


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        ([], 1, "No folder"),
        (["none"], 1, "no such folder"),
        (["."], 1, "no *.ins"),
        ([".", "workers=0"], 2, "workers"),
        ([".", "workers=2", "scheduler=tcp://x:1"], 1, "workers of its own"),
        ([".", "model=none.pt"], 1, "none.pt"),
        (["a", "b"], 2, "One folder"),
    ],
)
def test_what_cannot_run(arguments, status, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run([*arguments, "seed=1"]) == status
    assert told in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
