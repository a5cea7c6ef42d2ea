"""What the cards of the shipped weights say is what the stored results say."""

import re

import numpy as np
import pytest

from benchmarks import weights


def card(name):
    return (weights.WEIGHTS / name / "README.md").read_text("utf-8")


@pytest.mark.parametrize("name", list(weights.PARTS))
def test_a_card_quotes_the_cross_validated_rows_of_its_recipe(name):
    text = card(name)
    metrics = weights.cross_validated()
    assert len(metrics) == 5 and weights.HEADING in text
    for label, value in metrics.items():
        assert f"| {label} | {value} |" in text


@pytest.mark.parametrize("name", list(weights.PARTS))
def test_what_a_card_says_of_use_can_be_done(name):
    (code,) = re.findall("```python\n(.*?)\n```", card(name), re.S)
    assert f'from_pretrained("{name}"' in code
    n_chans = 64 if "-64-" in name else 8
    rng = np.random.default_rng(0)
    windows = rng.normal(scale=10, size=(64, n_chans, 280)).astype("float32")
    space = {"X": windows, "y": np.arange(64) % 2, "subject": np.arange(64) // 32}
    exec(code.replace("max_epochs=40", "max_epochs=1, verbose=0"), space)
    if "left" in space:
        total = (space["left"] + space["right"]).numpy()
        np.testing.assert_allclose(total, 1, rtol=1e-5)
    else:
        assert space["net"].predict(space["X"]).shape == (64,)
