"""No network, seeded, and tiny models that tests share."""

import gc
import os
from unittest import mock

# Before anything imports transformers, datasets or tqdm: they read these once. Progress bars on
# stderr would stand before the one line that a verb's error is.
os.environ["TQDM_DISABLE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest

# jaxtyping asks for it by name, as an attribute of `tests` (pyproject.toml).
import tests.typecheck  # noqa: F401
from tests.made_once import made_once  # noqa: F401


# Modules are most of what is there, and are never freed: the collector looked for garbage in them
# again and again, and in every fork it copied them.
def pytest_collection():
    gc.disable()


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


# Where tests were collected: the process that only hands them out to others needs no torch.
def pytest_collection_modifyitems():
    import torch

    import tests.faster  # noqa: F401

    # Of models this small threads cost more than they give, many times more on a busy machine.
    torch.set_num_threads(1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol():
    # A verb that runs in this process thaws everything. To ask how much is frozen counts it all.
    with mock.patch("gc.unfreeze", wraps=gc.unfreeze) as thawed:
        result = yield
    if thawed.called:
        gc.freeze()
    return result


@pytest.fixture(autouse=True)
def _seeded():
    import torch

    torch.manual_seed(0)


@pytest.fixture
def untyped():
    """No check of types, as users have none."""
    import jaxtyping

    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def zoo(tmp_path_factory):
    """Tiny random models, each built once; tests leave them as they found them."""
    from tests.models.zoo import Zoo

    return Zoo(tmp_path_factory.mktemp("zoo"))


@pytest.fixture(scope="module")
def exact_softmax():
    """Softmax in the dtype of its input where that is float64.

    TransformerLens and Hugging Face ask for float32 whatever the model's dtype, which leaves a
    float64 model with rounding of 1e-7 that depends on the padding.
    """
    import torch

    softmax = torch.nn.functional.softmax

    def exact(values, *args, dtype=None, **kwargs):
        wide = None if dtype is None else torch.promote_types(values.dtype, dtype)
        return softmax(values, *args, dtype=wide, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "softmax", exact)
        yield
