"""The Python code of the README runs as it stands there."""

import re
import shutil

import pytest


@pytest.mark.slow
def test_python_blocks_run(repository, thpp_folder, tmp_path, monkeypatch):
    """Each block runs on its own, in a folder that holds the thpp data."""
    text = (repository / "README.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 2
    for number, block in enumerate(blocks):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name in ("thpp.ins", "thpp.hkl"):
            shutil.copy(thpp_folder / name, folder)
        monkeypatch.chdir(folder)
        exec(compile(block, f"README.md, block {number + 1}", "exec"), {})


def test_links_lead_to_files(repository):
    text = (repository / "README.md").read_text()
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert targets
    assert [target for target in targets if not (repository / target).exists()] == []
