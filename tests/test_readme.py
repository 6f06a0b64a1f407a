"""The links in README.md and docs/ lead to files; their code runs in tests/programs."""

import re


def test_links_lead_to_files(repository):
    pages = [repository / "README.md", *(repository / "docs").glob("*.md")]
    targets = {
        page.parent / target
        for page in pages
        for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text())
    }
    assert repository / "docs" / "installation.md" in targets
    assert sorted(str(target) for target in targets if not target.exists()) == []
