"""Scores of three documents' gradients, by hand."""

import numpy as np
import pytest

from langheads.scores import formulas
from langheads.scores.registry import OfLanguage

G = np.array([[[-1.0, 2.0]], [[-3.0, 0.0]], [[1.0, -2.0]]])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("LAHIS", [5 / 3 * 2 / 3, 4 / 3 * 1 / 3]),
        ("LAHIS_PAPER", [4 / 3, 2 / 3]),
        ("TAYLOR", [1, 0]),
        ("GRAD_ABS", [5 / 3, 4 / 3]),
        ("HELPFUL", [2 / 3, 1 / 3]),
    ],
)
def test_values_by_hand(name, expected):
    found = getattr(formulas, name).values(G)
    np.testing.assert_allclose(found, [expected], atol=1e-15)


def test_errors_by_the_product_rule():
    size, helpful = np.array([1, 3, 1]), np.array([1, 1, 0])
    influence = (size - 5 / 3) * 2 / 3 + (helpful - 2 / 3) * 5 / 3
    np.testing.assert_allclose(formulas.LAHIS.influence(G)[:, 0, 0], influence)
    error = influence.std(ddof=1) / np.sqrt(3)
    np.testing.assert_allclose(formulas.LAHIS.standard_error(G)[0, 0], error)


def test_random_numbers_have_the_shape_of_the_heads():
    rows = {"gradient": np.zeros((5, 3, 4))}
    of = {x: OfLanguage(None, None, [seed], {}, rows) for x, seed in (("en", 1), ("zh", 2))}
    found = formulas.random_score(of)
    np.testing.assert_array_equal(found["en"], np.random.default_rng([1]).random((3, 4)))
    assert (found["en"] != found["zh"]).all()
