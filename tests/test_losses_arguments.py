"""What the losses take: names, choices, shapes, precision, rows of electrodes."""

import numpy as np
import pytest
import torch

from braindecode_gcmae.losses import (
    fixed_projection,
    graph_contrastive_loss,
    info_nce,
    local_structure_loss,
    logit_distillation_loss,
    reconstruction_loss,
    scaled_cosine_error,
    topology_distillation_loss,
)
from braindecode_gcmae.masking import counter_normal

KERNELS = ["cosine", "linear", "poly", "rbf", "euclidean"]


def noise(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=dtype, generator=generator)


def pairs(n):
    linked = torch.ones(n, n).triu(1) * (torch.arange(n) % 2 == 0)
    linked = (linked + linked.T) > 0
    return linked, ~linked & ~torch.eye(n, dtype=torch.bool)


def call(name, b=3, n=5, m=7, d=4, wide=4, **settings):
    """A loss by the names of its tensors."""
    linked, rest = pairs(n)
    nodes = {
        "student_nodes": noise(b, n, d),
        "teacher_nodes": noise(b, m, wide, seed=1),
        "kept": torch.arange(n),
    }
    function, tensors = {
        "info_nce": (
            info_nce,
            {
                "queries": noise(b, d),
                "positives": noise(b, 2, d, seed=1),
                "negatives": noise(m, d, seed=2),
            },
        ),
        "scaled_cosine_error": (
            scaled_cosine_error,
            {"reconstruction": noise(b, d), "target": noise(b, d, seed=1)},
        ),
        "reconstruction_loss": (
            reconstruction_loss,
            {"reconstruction": noise(b, n, d), "target": noise(b, n, d, seed=1)},
        ),
        "logit_distillation_loss": (
            logit_distillation_loss,
            {"student_logits": noise(b, d), "teacher_logits": noise(b, d, seed=1)},
        ),
        "topology_distillation_loss": (
            topology_distillation_loss,
            {**nodes, "positive": linked, "negative": rest},
        ),
        "local_structure_loss": (
            local_structure_loss,
            {**nodes, "neighbours": linked},
        ),
        "graph_contrastive_loss": (graph_contrastive_loss, nodes),
    }[name]
    return function, tensors, {**tensors, **settings}


EVERY = [
    "info_nce",
    "scaled_cosine_error",
    "reconstruction_loss",
    "logit_distillation_loss",
    "topology_distillation_loss",
    "local_structure_loss",
    "graph_contrastive_loss",
]


# ----------------------------------------------------------------------- the arguments
@pytest.mark.parametrize("name", EVERY)
def test_tensors_go_by_place_or_name_and_settings_by_name_alone(name):
    function, tensors, _ = call(name)
    order = {
        "topology_distillation_loss": "student_nodes teacher_nodes positive negative "
        "kept",
        "local_structure_loss": "student_nodes teacher_nodes neighbours kept",
    }.get(name, " ".join(tensors))
    by_place = [tensors[part] for part in order.split()]
    assert torch.equal(function(*by_place), function(**tensors))
    with pytest.raises(TypeError, match="positional"):
        function(*by_place, 1.0)


def spelled(word):
    """The same letters in an object of its own, as json and argparse make it."""
    made = "".join(list(word))
    assert made == word and made is not word
    return made


@pytest.mark.parametrize(
    ("name", "setting", "word"),
    [
        ("info_nce", "form", "paper"),
        ("reconstruction_loss", "form", "sce"),
        ("reconstruction_loss", "form", "mse"),
        ("reconstruction_loss", "structure_form", "correlation"),
        *(("topology_distillation_loss", "kernel", word) for word in KERNELS),
        *(("local_structure_loss", "kernel", word) for word in KERNELS),
        ("topology_distillation_loss", "form", "ratio"),
        ("topology_distillation_loss", "form", "margin"),
        ("topology_distillation_loss", "form", "log_ratio"),
    ],
)
def test_a_choice_is_known_by_its_letters(name, setting, word):
    function, _, given = call(name)
    assert torch.equal(
        function(**given, **{setting: spelled(word)}),
        function(**given, **{setting: word}),
    )


@pytest.mark.parametrize("size", ["b", "d", "m"])
@pytest.mark.parametrize("name", EVERY)
def test_three_hundred_of_anything_are_no_reason_to_refuse(name, size):
    given = {"b": 2, "n": 2, "m": 3, "d": 4, "wide": 4} | {size: 300}
    if size == "d":
        given["wide"] = 300
    function, _, tensors = call(name, **given)
    assert torch.isfinite(function(**tensors))


@pytest.mark.parametrize("d", [4, 300])
def test_nodes_of_equal_width_are_compared_without_a_projection(d):
    student, teacher = noise(2, 5, d), noise(2, 5, d, seed=1)
    cosine = torch.cosine_similarity(student[:, :, None], teacher[:, None], dim=-1)
    own = torch.arange(5).expand(2, 5)
    expected = torch.nn.functional.cross_entropy((cosine / 0.5).transpose(1, 2), own)
    found = graph_contrastive_loss(student, teacher, torch.arange(5), temperature=0.5)
    torch.testing.assert_close(found, expected)


# ------------------------------------------------------------------------- wrong shapes
WRONG = {
    "fewer positives": ("info_nce", {"positives": noise(2, 2, 4)}, "info_nce takes"),
    "more positives": ("info_nce", {"positives": noise(4, 2, 4)}, "info_nce takes"),
    "a flat positive": ("info_nce", {"positives": noise(3, 4)}, "info_nce takes"),
    "narrow queries": ("info_nce", {"queries": noise(3, 2)}, "info_nce takes"),
    "wide queries": ("info_nce", {"queries": noise(3, 6)}, "info_nce takes"),
    "narrow positives": (
        "info_nce",
        {"queries": noise(3, 2), "positives": noise(3, 4, 2)},
        "info_nce takes",
    ),
    "wide negatives": ("info_nce", {"negatives": noise(7, 6)}, "info_nce takes"),
    "narrow negatives": ("info_nce", {"negatives": noise(7, 2)}, "info_nce takes"),
    "as many positives as numbers": (
        "info_nce",
        {"queries": noise(3, 2), "negatives": noise(7, 4)},
        "info_nce takes",
    ),
    **{
        f"a reconstruction {name}": (
            "reconstruction_loss",
            {"reconstruction": noise(*shape)},
            r"must both have shape \(B, N, F\)",
        )
        for name, shape in {
            "of fewer windows": (2, 5, 4),
            "of more windows": (4, 5, 4),
            "of fewer nodes": (3, 1, 4),
            "of more features": (3, 5, 6),
            "of one window": (5, 4),
        }.items()
    },
    **{
        f"both of {n} dimensions": (
            "reconstruction_loss",
            {"reconstruction": noise(*shape), "target": noise(*shape)},
            r"must both have shape \(B, N, F\)",
        )
        for n, shape in {"two": (5, 4), "four": (3, 5, 4, 2)}.items()
    },
    "logits of fewer classes": (
        "logit_distillation_loss",
        {"student_logits": noise(3, 1)},
        "both need the same n_outputs",
    ),
    "logits of more classes": (
        "logit_distillation_loss",
        {"student_logits": noise(3, 6)},
        "both need the same n_outputs",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_shapes_that_do_not_fit_are_named(case):
    name, change, message = WRONG[case]
    function, _, tensors = call(name)
    with pytest.raises(ValueError, match=message):
        function(**{**tensors, **change})


@pytest.mark.parametrize("name", EVERY[4:])
@pytest.mark.parametrize(
    "shape", [(4, 5, 4), (2, 5, 4), (5, 4), (3, 5), (3, 7), (3, 5, 4, 1)]
)
@pytest.mark.parametrize("nodes", ["student_nodes", "teacher_nodes"])
def test_nodes_of_another_batch_or_dimension_are_named(name, shape, nodes):
    function, _, tensors = call(name)
    with pytest.raises(ValueError, match=r"nodes must have shapes \(B, n, d\)"):
        function(**{**tensors, nodes: noise(*shape)})


@pytest.mark.parametrize("name", EVERY[4:])
@pytest.mark.parametrize(
    "kept",
    [torch.arange(4), torch.arange(6), torch.zeros(1, 5).long(), torch.ones(5).bool()],
)
def test_kept_is_one_row_for_each_student_electrode(name, kept):
    function, _, tensors = call(name)
    with pytest.raises(ValueError, match="row of each of the 5"):
        function(**{**tensors, "kept": kept})


@pytest.mark.parametrize("name", EVERY[4:])
def test_the_first_row_that_the_teacher_lacks_is_named(name):
    function, _, tensors = call(name)
    cases = {9: [0, 9, 1, 2, 8], 7: [0, 7, 1, 2, 3], -1: [-1, 0, 1, 9, 2]}
    for named, kept in cases.items():
        with pytest.raises(ValueError, match=f"kept names row {named} of a teacher"):
            function(**{**tensors, "kept": torch.tensor(kept)})


# -------------------------------------------------------------- one of it is enough
@pytest.mark.parametrize("form", ["sce", "mse"])
def test_one_feature_is_enough_for_a_reconstruction(form):
    x = noise(3, 5, 1)
    assert reconstruction_loss(x, x, form=form) == 0
    assert reconstruction_loss(x, -x, form=form, structure_form="gram") > 0


@pytest.mark.parametrize("name", EVERY[4:])
def test_one_electrode_is_enough_and_tells_nothing(name):
    function, _, tensors = call(name, n=1, m=1)
    assert function(**tensors).abs() < 1e-12


# --------------------------------------------------------------------------- precision
@pytest.mark.parametrize("gamma", [1.0, 1.5, 2.0, 3.0])
def test_a_cosine_above_one_by_rounding_is_an_error_of_zero(gamma):
    x = noise(20_000, 3, dtype=torch.float32)
    unit = x / x.norm(dim=-1, keepdim=True)
    assert ((unit * unit).sum(-1) > 1).any(), "rounding does occur"
    error = scaled_cosine_error(x, x, gamma=gamma)
    assert 0 <= error < 1e-6, "and not NaN, which a broken power of it would be"


def test_autocast_does_not_round_the_correlation_of_the_rows():
    x, y = noise(4, 6, 16, dtype=torch.float32), noise(4, 6, 16, dtype=torch.float32)
    y = x + 1e-3 * y
    settings = {"form": "mse", "masked": torch.zeros(4, 6).bool()}
    expected = reconstruction_loss(x, y, **settings)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = reconstruction_loss(x, y, **settings)
    assert expected > 0
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=0.0)


@pytest.mark.parametrize("structure_form", ["correlation", "gram"])
def test_losses_have_a_value_on_devices_without_autocast(structure_form):
    x, y = (noise(4, 6, 16, dtype=torch.float32).to("meta") for _ in range(2))
    loss = reconstruction_loss(x, y, structure_form=structure_form)
    assert loss.is_meta and loss.shape == ()


def test_a_row_as_short_as_the_limit_has_no_direction():
    short, long = torch.zeros(1, 2).double(), torch.ones(1, 2).double()
    short[0, 0] = 1e-12
    assert scaled_cosine_error(short, long) == 1, "as with a zero row"
    assert scaled_cosine_error(2 * short, long) != 1


# -------------------------------------------------------------------- fixed projection
@pytest.mark.parametrize("shape", [(7, 3), (3, 7), (64, 24), (300, 300)])
def test_the_fixed_projection_is_made_of_the_first_numbers_of_the_counter(shape):
    wide, narrow = max(shape), min(shape)
    gauss = counter_normal(0, 0, torch.arange(wide), 0, (narrow,)).double().numpy()
    basis, upper = np.linalg.qr(gauss)
    basis = basis * np.sign(np.diag(upper)) * np.sqrt(shape[0] / narrow)
    expected = basis if shape[0] == wide else basis.T
    found = fixed_projection(*shape, torch.float64, torch.device("cpu"))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-10)
