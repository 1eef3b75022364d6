"""The picture of soft head masks shows the numbers of the file, each once."""

from dataclasses import replace

import numpy as np
import pytest

from langheads.heads import HeadSet
from langheads.heads.mask import HeadMask
from langheads.io.errors import InputError
from langheads.view import mask_training


def a_mask(heads=("L2H1", "L0H0"), values=(0.5, 1.25), language="<b>hi</b>", shape=(3, 2)):
    return HeadMask(
        heads=HeadSet(heads, shape),
        values=tuple(values),
        language=language,
        model="<i>m</i>",
        settings={"epochs": 2},
        losses={
            "train": [4.0, 2.0, 3.0, 1.0],
            "train_set": [[0, 3.0], [4, 1.5]],
            "validation": [[0, 5.0], [4, 4.5]],
        },
        split={"train": ["a"] * 7, "validation": ["v"], "seen": [], "contexts": [], "test": 3},
        provenance={},
    )


def traces(figure):
    return {trace.name.rsplit(", ", 1)[1]: trace for trace in figure.data}


def test_it_shows_losses_and_gates():
    figure = mask_training(a_mask())
    shown = traces(figure)
    assert list(shown["each step"].x) == [0, 1, 2, 3]
    assert list(shown["each step"].y) == [4, 2, 3, 1]
    # The mean of the last two steps, as many as an epoch has.
    assert list(shown["mean of an epoch"].y) == [4, 3, 2.5, 2]
    assert list(shown["all training questions"].x) == [0, 4]
    assert list(shown["all training questions"].y) == [3, 1.5]
    assert list(shown["validation"].y) == [5, 4.5]
    # Rows in the order of the heads, the gates with their own head.
    assert list(figure.layout.yaxis2.ticktext) == ["L0H0", "L2H1"]
    assert dict(zip(shown["gates"].y, shown["gates"].x, strict=True)) == {0: 1.25, 1: 0.5}
    low, high = figure.layout.xaxis2.range
    assert low < 0.5 < 1.25 < high
    assert "7 training questions" in figure.layout.title.subtitle.text
    one = replace(a_mask(), split={"train": ["a"]})
    assert "1 training question in" in mask_training(one).layout.title.subtitle.text
    assert "&lt;b&gt;hi&lt;/b&gt;" in figure.layout.title.subtitle.text
    assert "<b>hi" not in shown["gates"].name
    assert "&lt;i&gt;m" in figure.layout.title.text


def test_several_masks_share_rows_and_the_untouched_gate_is_inside():
    masks = {"own": a_mask(values=(0.5, 0.6)), "random": a_mask(("L1H1",), (0.9,))}
    figure = mask_training(masks)
    assert list(figure.layout.yaxis2.ticktext) == ["L0H0", "L1H1", "L2H1"]
    assert figure.layout.xaxis2.range[1] > 1
    dots = {trace.name: trace for trace in figure.data if trace.name.endswith("gates")}
    assert list(dots["random, gates"].y) == [1]
    colours = {trace.marker.color for trace in dots.values()}
    assert len(colours) == 2


def test_every_second_row_is_named_where_there_are_many():
    heads = [(layer, head) for layer in range(7) for head in range(8)]
    figure = mask_training(a_mask(heads, np.linspace(0.5, 1.5, 56), shape=(7, 8)))
    assert figure.layout.yaxis2.ticktext[:3] == ("L0H0", "", "L0H2")


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({}, "0 masks given; from 1 to 7 can be shown"),
        ({str(i): a_mask() for i in range(8)}, "8 masks given"),
        ({"a": a_mask(), "b": a_mask(shape=(3, 4))}, "masks of models of different shapes"),
    ],
)
def test_it_refuses(masks, message):
    with pytest.raises(InputError, match=message):
        mask_training(masks)
