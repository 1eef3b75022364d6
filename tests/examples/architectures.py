"""The site's table of architectures, from the models and tests that it tells of.

python -m tests.examples.architectures prints it.
"""

from tests.models.test_attention import FUSED
from tests.models.test_attribution import _LINEAR
from tests.models.test_prune import SHRINKS
from tests.models.zoo import HEADS, NAMES, hugging_face

HEAD = (
    "| | class | heads, key-value heads | attention | fused attention | direct attribution "
    "| groups cut out |"
)


def _row(name):
    model = hugging_face(name)
    config = model.config
    key_value = getattr(config, "num_key_value_heads", HEADS)
    window = bool(getattr(config, "sliding_window", None))
    mixed = len(set(getattr(config, "layer_types", None) or [])) > 1
    attention = "windows and full, in turn" if mixed else "window" if window else "full"
    return (
        f"| {name} | `{type(model).__name__}` | {HEADS}, {key_value} | {attention} "
        f"| {'yes' if name in FUSED else 'eager'} | {'yes' if name in _LINEAR else 'refused'} "
        f"| {'yes' if name in {shrunk[0] for shrunk in SHRINKS} else '-'} |"
    )


def table():
    """As it stands on the page."""
    return "\n".join([HEAD, "|---" * 7 + "|", *map(_row, NAMES)])


if __name__ == "__main__":
    print(table())
