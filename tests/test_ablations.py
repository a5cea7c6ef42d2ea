"""The table of ablations names methods that exist, and pairs like with like."""

import pytest
import torch

from benchmarks import ablations, methods, tables
from benchmarks.ours import model_arguments
from braindecode_gcmae import GCMAEStudent


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


def test_without_its_graph_network_a_student_is_its_head_on_second_moments():
    given = methods.METHODS["second moments alone"].settings["student"]
    signal = {"n_outputs": 2, "ch_names": ["C3", "Cz", "C4"], "sfreq": 80}
    model = GCMAEStudent(**signal, n_times=160, **model_arguments(given)).eval()
    x = 10 * torch.randn(2, 3, 160)
    network = model.network
    moments = network.moments(*(network.graph_of(x)[i] for i in (0, 3)))
    torch.testing.assert_close(model(x), model.final_layer(moments))
    model(x).sum().backward()
    learns = {name for name, p in model.named_parameters() if p.grad is not None}
    assert learns == {"final_layer.weight", "final_layer.bias"}
