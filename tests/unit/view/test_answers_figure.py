"""The figure, table and sentences of answers under masks hold the numbers of the file."""

import numpy as np
import pytest

from langheads.io.errors import InputError
from langheads.view import qa_changes
from langheads.view.contents import RunFolder
from langheads.view.kinds import KINDS
from tests.unit.view.made_up_replies import QA, make_qa, make_transfer

HOSTILE = "<b>x</b> %{y}"
RUN = RunFolder()


def test_every_measure_and_guard_is_a_panel_of_changes_with_intervals():
    result = make_qa(random=3)
    figure = qa_changes(result)
    masks = ["mask", "random heads 0", "random heads 1", "random heads 2", "all heads"]
    assert list(figure.layout.yaxis.ticktext) == masks
    points = iter(figure.data)
    for name in QA:
        for row, mask in enumerate(masks):
            point, at = next(points), result.sel(condition=mask)
            assert (point.name, list(point.y)) == (mask, [row])
            assert point.x[0] == at[f"delta_{name}"].item()
            assert point.x[0] + point.error_x.array[0] == pytest.approx(
                at[f"delta_{name}_high"].item()
            )
            assert point.x[0] - point.error_x.arrayminus[0] == pytest.approx(
                at[f"delta_{name}_low"].item()
            )
    assert next(points, None) is None
    titles = [note.text for note in figure.layout.annotations]
    assert titles[0] == "accuracy<br>untouched 0.500"
    assert titles[7] == "NLL of the reply<br>untouched 1.500"
    assert figure.layout.xaxis4.title.text == "change, nats"
    hover = figure.data[0].hovertemplate
    for said in ("0.600", "+0.100 (+0.050 to +0.150)", "over random heads +0.080 (+0.040 to"):
        assert said in hover
    assert "over random" not in figure.data[1].hovertemplate


def test_a_measure_that_nothing_changes_has_a_narrow_axis():
    result = make_qa()
    assert qa_changes(result).layout.xaxis.range is None
    result.delta_accuracy[:] = 0.0
    assert list(qa_changes(result).layout.xaxis.range) == [-0.1, 0.1]


def test_hovering_says_no_interval_where_there_is_none():
    result = make_qa()
    ends = [name for name in result if str(name).endswith(("_low", "_high"))]
    figure = qa_changes(result.assign({name: result[name] * np.nan for name in ends}))
    said = [trace.hovertemplate for trace in figure.data]
    assert not any("nan" in of for of in said)
    change = float(result.delta_accuracy.sel(condition=figure.data[0].name))
    assert f"<br>change {change:+.3f}<" in said[0]


def test_chosen_random_and_all_heads_differ_without_colour():
    symbols = {trace.name: trace.marker.symbol for trace in qa_changes(make_qa()).data}
    assert len(set(symbols.values())) == 3


def test_measures_that_an_old_file_lacks_are_left_out():
    old = make_qa()[
        [f"{p}accuracy{s}" for p, s in (("", ""), ("delta_", ""), ("delta_", "_low"))]
        + ["delta_accuracy_high"]
    ].assign_attrs(make_qa().attrs)
    figure = qa_changes(old)
    assert [trace.name for trace in figure.data] == ["mask", "random heads", "all heads"]
    with pytest.raises(InputError, match="without any mask"):
        qa_changes(old.sel(condition=["untouched"]))
    assert list(KINDS["qa"].pictures(old.sel(condition=["untouched"]), RUN)) == []
    with pytest.raises(InputError, match="kind 'qa' asked for, found kind 'transfer'"):
        qa_changes(make_transfer(["en", "zh"]))


def test_random_sets_are_told_together_and_each_stands_in_the_table():
    result = make_qa(random=3)
    (said,) = list(KINDS["qa"].summary(result, RUN))
    assert said == (
        "Answers in hi, 20 questions, change in accuracy (95% interval): "
        "mask 0.100 (0.050 to 0.150), over "
        "random heads 0.080 (0.040 to 0.120); all heads 0.200 (0.150 to 0.250), over random heads "
        "0.180 (0.140 to 0.220); 3 sets of random heads 0.020 on average (0.010 to 0.030)."
    )
    (table,) = list(KINDS["qa"].tables(result, RUN))
    assert table.header[-2:] == ["change against untouched", "over random heads"]
    assert len(table.rows) == 6 * len(QA)
    rows = {tuple(row[:2]): row[2:] for row in table.rows}
    random = rows["accuracy (share)", "random heads 1"]
    assert random == ["0.520", "0.020 (−0.030 to 0.070)", "–"]
    expected = ["2.100", "0.100 (0.050 to 0.150)", "0.080 (0.040 to 0.120)"]
    assert rows["NLL of the right answer (nats)", "mask"] == expected


def test_replies_that_fell_apart_are_told():
    result = make_qa()
    result.delta_repetition[1] = 0.1
    assert len(list(KINDS["qa"].summary(result, RUN))) == 1
    result.delta_empty[3] = 0.11
    result.delta_reply_nll[1] = 1.25
    said = list(KINDS["qa"].summary(result, RUN))[1]
    assert said == (
        "Replies fell apart under mask (NLL of the reply +1.25 nats per token); all heads (empty "
        "replies +0.11 of all): there a change in accuracy says nothing about the language."
    )


def test_names_are_shown_literally():
    result = make_qa(model=HOSTILE).assign_coords(
        condition=["untouched", HOSTILE, "random heads", "all heads"]
    )
    figure = qa_changes(result)
    assert "<b>x" not in figure.layout.title.subtitle.text
    assert "<b>x" not in figure.layout.yaxis.ticktext[0]
    assert "<b>x" not in figure.data[0].hovertemplate
    assert "%{y}" not in figure.data[0].hovertemplate
