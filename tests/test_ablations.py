"""The table of ablations names methods that exist, and pairs like with like."""

import pytest

from benchmarks import ablations, methods, tables


def rows(method, score, seeds=(0,), people=range(6)):
    return [
        {
            "method": method,
            "person": str(person),
            "seed": str(seed),
            "score": str(score + 0.01 * person + 0.02 * seed),
            "n_windows": "45",
            "seconds": "1",
            "n_parameters": "7",
        }
        for person in people
        for seed in seeds
    ]


def test_every_variant_is_a_method_and_every_ablation_is_in_the_table():
    named = {
        name for members in ablations.FAMILIES.values() for name in members.values()
    }
    assert named <= set(methods.METHODS)
    wanted = {recipe.name for recipe in methods.ABLATIONS}
    assert wanted <= named
    for members in ablations.FAMILIES.values():
        assert len(set(members.values())) == len(members)


def test_variants_are_paired_on_the_seeds_that_both_have():
    """Scores rise with the seed, so a mean over other seeds would show a gap."""
    found = ablations.variants(
        {
            "scratch": rows("scratch", 0.5, seeds=(0, 1, 2)),
            "distil GTD": rows("distil GTD", 0.53),
            "band 4-8 Hz": rows("band 4-8 Hz", 0.4, people=range(3)),
        }
    )
    (family,) = found  # the band has not been run for all the people
    labels = [row[0] for row in found[family]]
    assert family.startswith("distillation") and labels == ["none", "GTD"]
    assert found[family][1][3:5] == ("1", "+3.0")


def test_a_family_without_a_reference_or_without_variants_is_no_table():
    assert ablations.variants({"distil GTD": rows("distil GTD", 0.5)}) == {}
    assert ablations.variants({"scratch": rows("scratch", 0.5)}) == {}


def test_the_table_says_how_many_people_it_is_about():
    place = "left-right", "motor-8", "few"
    own = {"scratch": rows("scratch", 0.5), "distil GTD": rows("distil GTD", 0.53)}
    text = ablations.markdown({"a laptop": {place: own}})
    assert "## a laptop" in text
    assert "motor-8, few labels, 6 people" in text
    assert "| GTD | 55.5 |" in text
    assert tables.summarise(own["distil GTD"])["mean"] == pytest.approx(0.555)
