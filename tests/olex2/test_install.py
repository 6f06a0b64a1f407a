"""The plugin goes into an Olex2 and comes out without a trace."""

import os
from pathlib import Path

import pytest

# cctbx
from libtbx.utils import Sorry

from phai_cctbx.olex2.install import NAME, SOURCE, install, solver_command, uninstall
from phai_cctbx.programs.command import run_command
from phai_cctbx.programs.install_olex2_plugin import Program


def tree(folder):
    """Every file below a folder, with its content."""
    return {
        path.relative_to(folder): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_install_and_uninstall(olex2_folder):
    before = tree(olex2_folder)
    target = install(olex2_folder)
    assert target == olex2_folder / "util" / "pyUtil" / "PluginLib" / f"plugin-{NAME}"
    names = {path.name for path in target.iterdir()}
    assert names == {"PhaiCctbx.py", "PhaiCctbx.htm", "def.txt", "phai.phil", "command.txt"}
    text = (olex2_folder / "plugins.xld").read_text()
    assert text.split() == ["<Plugin", "<PhaiCctbx>", "<Other>", ">"]
    uninstall(olex2_folder)
    assert tree(olex2_folder) == before


def test_twice_is_an_update(olex2_folder):
    target = install(olex2_folder)
    (target / "of_an_older_version.py").write_text("")
    install(olex2_folder)
    assert not (target / "of_an_older_version.py").exists()
    assert (olex2_folder / "plugins.xld").read_text().count("<PhaiCctbx>") == 1


def test_olex2_without_plugins(olex2_folder):
    (olex2_folder / "plugins.xld").unlink()
    before = tree(olex2_folder)
    install(olex2_folder)
    assert (olex2_folder / "plugins.xld").read_text().split() == ["<Plugin", "<PhaiCctbx>", ">"]
    uninstall(olex2_folder)
    assert tree(olex2_folder) == before


def test_encoding_of_the_list_is_kept(olex2_folder):
    (olex2_folder / "plugins.xld").write_bytes("<Plugin\r\n<Other>\r\n>\r\n".encode("utf-16"))
    install(olex2_folder)
    text = (olex2_folder / "plugins.xld").read_bytes().decode("utf-16")
    assert "<PhaiCctbx>" in text and "<Other>\r\n" in text


def test_command(olex2_folder, tmp_path):
    """The command can be run, and an executable that is named is taken."""
    command = solver_command()
    assert os.access(command[0], os.X_OK)
    chosen = tmp_path / "my solver"
    chosen.write_text("")
    target = install(olex2_folder, executable=chosen)
    assert (target / "command.txt").read_text().splitlines() == [str(chosen)]
    with pytest.raises(Sorry, match="no such file"):
        install(olex2_folder, executable=tmp_path / "absent")


def test_other_folders(tmp_path, olex2_folder):
    for action in (install, uninstall):
        with pytest.raises(Sorry, match=r"no Olex2 here.*BaseDir"):
            action(tmp_path / "absent")
    with pytest.raises(Sorry, match="not in this Olex2"):
        uninstall(olex2_folder)


def test_closed_folder(olex2_folder, monkeypatch):
    def closed(source, target, **options):
        raise PermissionError(13, "Permission denied", str(target))

    monkeypatch.setattr("shutil.copytree", closed)
    with pytest.raises(Sorry, match=r"plugin-PhaiCctbx: cannot be written \(Permission denied\)"):
        install(olex2_folder)
    assert f"<{NAME}>" not in (olex2_folder / "plugins.xld").read_text()


def test_as_a_command(olex2_folder, tmp_path, capsys):
    assert run_command(Program, [str(olex2_folder), "--quiet"]) == 0
    assert f"<{NAME}>" in (olex2_folder / "plugins.xld").read_text()
    assert run_command(Program, [str(olex2_folder), "uninstall=True", "--quiet"]) == 0
    assert f"<{NAME}>" not in (olex2_folder / "plugins.xld").read_text()
    assert run_command(Program, [str(tmp_path / "absent"), "--quiet"]) == 1
    assert "no Olex2 here" in capsys.readouterr().err
    assert run_command(Program, ["--quiet"]) == 1


def test_plugin_files_are_package_data(repository):
    """All kinds of files in the folder of the plugin, so that wheels hold them."""
    assert SOURCE == repository / "phai_cctbx" / "olex2" / f"plugin-{NAME}"
    text = (repository / "pyproject.toml").read_text()
    assert f'"phai_cctbx.olex2" = ["plugin-{NAME}/*"]' in text
    assert Path(SOURCE, "def.txt").is_file()
