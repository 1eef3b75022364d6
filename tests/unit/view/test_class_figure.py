import numpy as np
import pytest

from langheads.selection.classify import classify
from langheads.view import head_classes
from tests.unit.selection.test_classify import loss, task

HOSTILE = '<b>x</b><a href="javascript:alert(1)">%{z} & $y$</a>'


@pytest.mark.parametrize("made", [task, loss])
def test_every_head_is_a_dot_at_its_two_changes(made):
    classes = classify(made())
    figure = head_classes(classes)
    groups = {trace.name: trace for trace in figure.data}
    assert set(groups) == {
        "en-specific (2)", "hi-specific (1)", "agnostic (1)", "other (2)"
    }  # fmt: skip
    assert list(groups["en-specific (2)"].hovertext) == ["L1H0", "L0H0"]
    en, hi = classes.deltas["en"], classes.deltas["hi"]
    changes = np.abs([en[0][np.isfinite(en[0])], hi[0][np.isfinite(hi[0])]])
    scale = np.median(changes)
    for trace in figure.data:
        for i, name in enumerate(trace.hovertext):
            layer, head = int(name[1]), int(name[3])
            # The axes are drawn as asinh; hovering gives the numbers.
            assert scale * np.sinh(trace.x[i]) == pytest.approx(en[0, layer, head])
            assert scale * np.sinh(trace.y[i]) == pytest.approx(hi[0, layer, head])
            assert list(trace.customdata[i][:6]) == [*en[:, layer, head], *hi[:, layer, head]]
            if trace.error_x.array is not None:
                high = scale * np.sinh(trace.x[i] + trace.error_x.array[i])
                low = scale * np.sinh(trace.y[i] - trace.error_y.arrayminus[i])
                assert high == pytest.approx(en[2, layer, head])
                assert low == pytest.approx(hi[1, layer, head])
    for axis in (figure.layout.xaxis, figure.layout.yaxis):
        assert classes.units in axis.title.text
        for at, text in zip(axis.tickvals, axis.ticktext, strict=True):
            assert scale * np.sinh(at) == pytest.approx(
                float(text.replace("−", "-")), rel=0.01, abs=1e-12
            )
    markers = [trace.marker for trace in figure.data]
    assert len({marker.color for marker in markers}) == 4
    assert len({marker.symbol for marker in markers}) == 4
    said = figure.layout.title.subtitle.text
    assert ("not aligned" in said) == (made is loss)
    assert ("positive is worse" in said) == (made is loss)


def test_ticks_keep_apart_and_0_stays():
    data = task()
    delta = data.example_delta_answer_logprob
    n = delta.sizes["layer"] * delta.sizes["head"]
    # From 1e-5 to 1 on both sides of 0 in the first language, a thousandth of that in the other.
    sizes = np.logspace(-5, 0, n) * np.where(np.arange(n) % 2, 1, -1)
    delta.values[:] = sizes.reshape(delta.sizes["layer"], delta.sizes["head"])
    delta.values[:, 1] /= 1000
    layout = head_classes(classify(data)).layout
    for axis, apart in ((layout.xaxis, 0.09), (layout.yaxis, 0.04)):
        assert np.diff(axis.tickvals).min() > apart * (axis.range[1] - axis.range[0])
        assert 0.0 in axis.tickvals
        assert min(axis.tickvals) < 0 < max(axis.tickvals)
    assert {"−0.1", "0.1"} <= set(layout.xaxis.ticktext)


def test_the_shaded_corner_is_where_both_are_harmed():
    corner = [s for s in head_classes(classify(task(), min_drop=1.0)).layout.shapes if s.x1 != s.x0]
    (shape,) = [s for s in corner if s.type == "rect"]
    assert shape.x1 < shape.x0 < 0
    assert shape.y1 < shape.y0 < 0
    corner = head_classes(classify(loss(), min_drop=1.0)).layout.shapes
    (shape,) = [s for s in corner if s.type == "rect"]
    assert 0 < shape.x0 < shape.x1


def test_nothing_at_all_can_be_drawn():
    data = task()
    data.example_delta_answer_logprob[:] = 0.0
    figure = head_classes(classify(data))
    assert [len(trace.x) for trace in figure.data] == [8, 0, 0, 0]


def test_names_are_shown_literally():
    data = task(model=HOSTILE).assign_coords(language=["en", HOSTILE])
    drawn = head_classes(classify(data, ("en", HOSTILE))).to_json()
    assert "<b>x" not in drawn.replace("\\u003c", "<")
    assert "%{z}" not in drawn


def test_undecided_heads_have_a_mark_of_their_own():
    data = task()
    noise = np.random.default_rng(5).normal(size=60)
    data.example_delta_answer_logprob[0, 0, :, 0, 0] = -0.5
    data.example_delta_answer_logprob[0, 1, :, 0, 0] = 10 * (noise - noise.mean())
    (mark,) = [of for of in head_classes(classify(data)).data if of.name == "undecided (1)"]
    assert list(mark.hovertext) == ["L0H0"]
    assert mark.marker.symbol == "x-thin-open"
