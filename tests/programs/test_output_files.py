"""Result files are refused before the work and written all or none."""

import pytest

# cctbx
from libtbx.utils import Sorry

from phai_cctbx.programs.output_files import OutputFiles


def test_all_files_appear_together(tmp_path):
    files = OutputFiles("x_phai", ["res", "json"], tmp_path)
    with files.staged() as paths:
        paths["res"].write_text("atoms")
        paths["json"].write_text("{}")
        assert not files.paths["res"].exists()
    assert {path.name for path in tmp_path.iterdir()} == {"x_phai.res", "x_phai.json"}
    assert files.paths["res"].read_text() == "atoms"


def test_an_error_leaves_nothing(tmp_path):
    files = OutputFiles("x", ["res", "json"], tmp_path)

    def fail_half_way():
        with files.staged() as paths:
            paths["res"].write_text("atoms")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_was_not_written_is_an_error(tmp_path):
    files = OutputFiles("x", ["json"], tmp_path)
    with pytest.raises(Sorry, match="x.json"), files.staged():
        pass
    assert list(tmp_path.iterdir()) == []


def test_existing_files_are_refused_by_name_and_left_alone(tmp_path):
    (tmp_path / "x.res").write_text("mine")
    with pytest.raises(Sorry, match=r"x\.res would be overwritten.*overwrite=True"):
        OutputFiles("x", ["res", "json"], tmp_path)
    files = OutputFiles("x", ["res"], tmp_path, overwrite=True)
    with files.staged() as paths:
        assert (tmp_path / "x.res").read_text() == "mine"
        paths["res"].write_text("new")
    assert (tmp_path / "x.res").read_text() == "new"


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path):
    files = OutputFiles("x", ["res"], tmp_path)

    def write_while_another_does():
        with files.staged() as paths:
            paths["res"].write_text("new")
            (tmp_path / "x.res").write_text("mine")

    with pytest.raises(Sorry, match=r"x\.res"):
        write_while_another_does()
    assert (tmp_path / "x.res").read_text() == "mine"


@pytest.mark.parametrize("name", ["", "a/b", "..", "."])
def test_names_that_are_no_file_names(name, tmp_path):
    with pytest.raises(Sorry, match="prefix="):
        OutputFiles(name, ["res"], tmp_path)


def test_folders(tmp_path):
    with pytest.raises(Sorry, match="no such folder"):
        OutputFiles("x", ["res"], tmp_path / "none")
    (tmp_path / "x.res").mkdir()
    with pytest.raises(Sorry, match="is a folder"):
        OutputFiles("x", ["res"], tmp_path, overwrite=True)
