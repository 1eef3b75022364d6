"""Arguments and results are checked in every function, also in one that is made again."""

from pathlib import Path

import pytest
import torch
from jaxtyping import Float, TypeCheckError, jaxtyped
from torch import Tensor

import langheads
from langheads.stats import p_value
from tests.typecheck import checked


def made(shape, result):
    @jaxtyped(typechecker=checked)
    def hook(x: Float[Tensor, shape], y: Float[Tensor, " n"]) -> result:
        return x

    return hook


def test_each_signature_is_checked_by_its_own_types():
    one, two = torch.ones(2), torch.ones(2, 2)
    for _ in range(3):
        assert made("n", Tensor)(one, one) is one
        assert made("n n", Tensor)(two, one) is two
        with pytest.raises(TypeCheckError, match="parameters"):
            made("n", Tensor)(two, one)
        with pytest.raises(TypeCheckError, match="parameters"):
            made("n", Tensor)(torch.ones(3), one)
        with pytest.raises(TypeCheckError, match="return value"):
            made("n", int)(one, one)


def test_langheads_is_checked():
    with pytest.raises(TypeCheckError):
        p_value("three", 5)


def test_every_module_with_shapes_is_checked(request):
    checked_packages = request.config.getoption("jaxtyping_packages").split(",")[:-1]
    root = Path(langheads.__file__).parent
    for path in root.rglob("*.py"):
        if "from jaxtyping import" in path.read_text("utf-8"):
            name = ".".join(("langheads", *path.relative_to(root).with_suffix("").parts))
            assert any(f"{name}.".startswith(f"{of}.") for of in checked_packages), name
