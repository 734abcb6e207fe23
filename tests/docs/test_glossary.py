"""The docs' glossary says what the report's does."""

from __future__ import annotations

from tests.docs.blocks import ROOT
from tuner.report.glossary import GLOSSARY


def test_terms_of_the_report_mean_the_same_in_the_docs() -> None:
    rows = (ROOT / "docs" / "glossary.md").read_text().splitlines()
    assert [term for term, meaning in GLOSSARY.items() if f"| {term} | {meaning} |" not in rows] == []
