"""The links in README.md and docs/ lead to files; their code runs in tests/programs."""

import re


def without_code(text):
    """Markdown without code, in which brackets are no links (SMILES, for instance)."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^(?: {4}|\t).*$", "", text, flags=re.MULTILINE)
    return re.sub(r"`[^`]*`", "", text)


def test_links_lead_to_files(repository):
    pages = [repository / "README.md", *(repository / "docs").glob("*.md")]
    targets = {
        page.parent / target
        for page in pages
        for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", without_code(page.read_text()))
    }
    assert repository / "docs" / "installation.md" in targets
    assert sorted(str(target) for target in targets if not target.exists()) == []
