"""What the cards of the shipped weights say is what the stored results say."""

import pytest

from benchmarks import weights


@pytest.mark.parametrize("name", list(weights.PARTS))
def test_a_card_quotes_the_cross_validated_rows_of_its_recipe(name):
    text = (weights.WEIGHTS / name / "README.md").read_text()
    metrics = weights.cross_validated()
    assert len(metrics) == 5
    for label, value in metrics.items():
        assert f"| {label} | {value} |" in text
