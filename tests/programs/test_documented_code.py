"""The Python code of the README and of the usage guide runs as it stands."""

import re

import pytest


def python_blocks(path):
    """The blocks marked as Python in a Markdown file."""
    return re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["README.md", "docs/usage.md"])
def test_code_runs(name, repository, thpp):
    blocks = python_blocks(repository / name)
    assert any("phai_cctbx.solve(" in block for block in blocks)
    assert any("phai_cctbx.NeuralPhaser(" in block for block in blocks)
    namespace = {}
    for block in blocks:
        exec(compile(block, name, "exec"), namespace)
    assert namespace["result"].solved
    assert 0 < namespace["phased"].expected_r <= 1
    assert (thpp.parent / "thpp_phai.res").is_file()
