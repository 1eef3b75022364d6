"""Files that were right until something happened to them, drawn by hypothesis."""

import json

from hypothesis import strategies as st

_HOLE = "\u2603"
# As they stand in JSON: what Python's floats, integers, texts and recursion do not take, and kinds
# that do not belong.
_ODD = [
    *("null", "true", "0", "-1", "2.5", "[]", "{}", '""', '"x"', "[null]", '[["x", -1]]'),
    *("NaN", "Infinity", "-Infinity", "1e999", "1e308", "-1e308", "1e-320", "9" * 19, "9" * 400),
    *("9" * 4299, "9" * 5000, "-" + "9" * 350, "[" * 3000 + "]" * 3000, '{"a": {"b": {}}}'),
    *(r'"\ud800"', r'"\u0000"', r'"\ufeff"', r'"\u202e<script>"', '"' + "n" * 300 + '"', '"L0H0"'),
    *("[0, 0]", "[999999999, 0]", "[-1, 0]", "[[0, 0], [0, 0]]", '"2020-01-01"', '"en"', '["en"]'),
]  # fmt: skip
_values = st.sampled_from(_ODD) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=4,
).map(json.dumps)  # fmt: skip


_PIECES = [b"9" * 400, b'"', b"\xff", b"\xef\xbb\xbf", b"\n", b"\0", b"[{"]


def places(document, path=()):
    """The path of every value in a document, its own first."""
    yield path
    children = document.items() if isinstance(document, dict) else ()
    children = enumerate(document) if isinstance(document, list) else children
    for key, inner in children:
        yield from places(inner, (*path, key))


@st.composite
def documents(draw, document):
    """A JSON text of which a value is another, is missing, is there twice or has another name."""
    copy = json.loads(json.dumps(document))
    *above, last = draw(st.sampled_from([path for path in places(copy) if path]))
    holder = copy
    for key in above:
        holder = holder[key]
    how = draw(st.sampled_from(("replaced", "replaced", "gone", "twice", "named")))
    value = draw(_values)
    if how == "gone":
        del holder[last]
    elif isinstance(holder, list) or how == "replaced":
        holder[last] = _HOLE
        if how == "twice":
            holder.append(holder[last])
    elif how == "named":
        holder[draw(st.text(max_size=6) | st.sampled_from(["__proto__", "n" * 500]))] = holder.pop(
            last
        )
    else:
        # A key that stands there twice; the second counts.
        text = json.dumps(copy, ensure_ascii=False)
        own = json.dumps(last, ensure_ascii=False)
        return text.replace(f"{own}:", f"{own}: {value}, {own}:", 1)
    return json.dumps(copy, ensure_ascii=False).replace(
        json.dumps(_HOLE, ensure_ascii=False), value
    )


HOW = ("flip", "put", "cut", "gone", "again", "over")


@st.composite
def damaged(draw, content, how_often=HOW):
    """Bytes of which some are others, missing or too many, or which end too soon."""
    found = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(found) - 1)))
        how = draw(st.sampled_from(how_often))
        if how == "flip" and found:
            found[at] ^= 1 << draw(st.integers(0, 7))
        elif how == "put":
            found[at:at] = draw(
                st.binary(max_size=4)
                | st.sampled_from([b"9" * 400, b'"', b"\xff", b"\xef\xbb\xbf", b"\n", b"\0", b"[{"])
            )
        elif how == "over":
            others = draw(st.binary(min_size=1, max_size=8))
            found[at : at + len(others)] = others
        elif how == "cut":
            del found[at:]
        elif how == "gone":
            del found[at : at + draw(st.integers(1, 40))]
        else:
            found[at:at] = found[at : at + draw(st.integers(1, 40))]
    return bytes(found)


def files(content):
    """What can become of a file of JSON, or of lines of JSON."""
    try:
        given = json.loads(content)
        return damaged(content) | documents(given).map(_encoded)
    except ValueError:
        given = [json.loads(line) for line in content.splitlines()]
    one = st.integers(0, len(given) - 1).flatmap(
        lambda at: documents(given[at]).map(lambda text: _lines(given, at, text))
    )
    return damaged(content) | one


def _lines(given, at, text):
    lines = [json.dumps(each, ensure_ascii=False) for each in given]
    return _encoded("\n".join([*lines[:at], text, *lines[at + 1 :]]))


def _encoded(text):
    return text.encode("utf-8", "surrogatepass")
