"""The parser of answers: what the json module reads of them, or an error; never something less."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recommender.inputs.answers import BadAnswer, PartialAnswer, parse_answer

NUMBERS = st.one_of(
    st.sampled_from(["NaN", "+Inf", "-Inf", "0", "-0", "1e-300", "5e-324", "1.7976931348623157e+308"]),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(10**15), 10**15).map(str),
)
TIMES = st.integers(0, 4 * 10**12).map(lambda milliseconds: milliseconds / 1000)
HOSTILE = st.sampled_from(
    ['"values":[[', "]]", "]]}", '"result":[', "\\", '"', "{", "}", "\\\\", '\\"', "}]]},", "\n", "é☃😀", "\x00", "NaN"]
)
TEXTS = st.one_of(HOSTILE, st.lists(HOSTILE, max_size=4).map("".join), st.text(max_size=12))
LABELS = st.dictionaries(TEXTS, TEXTS, max_size=4)
SAMPLES = st.lists(st.tuples(TIMES, NUMBERS), min_size=1, max_size=5)
MATRIX = st.lists(st.tuples(LABELS, SAMPLES), max_size=4)
VECTOR = st.lists(st.tuples(LABELS, st.tuples(TIMES, NUMBERS)), max_size=4)
COMPACT, SPACED = {"separators": (",", ":")}, {"separators": (", ", ": ")}


def matrix(series):
    return [{"metric": labels, "values": [list(each) for each in samples]} for labels, samples in series]


def vector(series):
    return [{"metric": labels, "value": list(sample)} for labels, sample in series]


def answer(result, kind="matrix", **more):
    return {"status": "success", "data": {"resultType": kind, "result": result}} | more


def as_bytes(document, **how):
    return json.dumps(document, ensure_ascii=False, **(how or COMPACT)).encode("utf-8", "surrogatepass")


def as_json_reads(content):
    read = []
    for each in json.loads(content)["data"]["result"]:
        samples = each["values"] if "values" in each else [each["value"]] if "value" in each else []
        read.append((each["metric"], [(float(time), float(value)) for time, value in samples]))
    return read


def assert_read_as_json_does(content):
    found, wanted = parse_answer(content), as_json_reads(content)
    assert [each.labels for each in found] == [labels for labels, _ in wanted]
    for each, (_, samples) in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(each.unix_seconds, [time for time, _ in samples])
        np.testing.assert_array_equal(each.values, [value for _, value in samples])


TWO = [({"pod": "a]]", "x": '"values":[['}, [(1.5, "1"), (2.5, "2")]), ({"pod": "b"}, [(1.5, "3"), (2.5, "NaN")])]


@settings(deadline=None)
@given(series=MATRIX, how=st.sampled_from([COMPACT, SPACED, {"indent": 1}]))
def test_a_matrix_is_read_as_the_json_module_reads_it(series, how):
    assert_read_as_json_does(as_bytes(answer(matrix(series)), **how))


@settings(deadline=None)
@given(series=VECTOR, how=st.sampled_from([COMPACT, SPACED, {"indent": 1}]))
def test_a_vector_is_read_as_the_json_module_reads_it(series, how):
    assert_read_as_json_does(as_bytes(answer(vector(series), "vector"), **how))


@settings(deadline=None)
@given(series=MATRIX)
def test_labels_in_ascii_escapes_are_read_too(series):
    assert_read_as_json_does(json.dumps(answer(matrix(series)), separators=(",", ":")).encode("ascii"))


def test_values_that_are_no_finite_numbers_stay_what_they_are():
    content = as_bytes(answer(matrix([({}, [(1, "NaN"), (2, "+Inf"), (3, "-Inf"), (1795171508.738, "1e-300")])])))
    (found,) = parse_answer(content)
    assert math.isnan(found.values[0])
    assert found.values[1:].tolist() == [math.inf, -math.inf, 1e-300]
    assert found.unix_seconds[-1] == 1795171508.738


ENVELOPES = [
    {"stats": {"timings": {"evalTotalTime": 0.1}, "samples": {"totalQueryableSamplesPerStep": [[1, 2]]}}},
    {"infos": ["PromQL info: metric might not be a counter"]},
    {"infos": ['see [[this]] and "that]]"']},
    {"infos": ["a]],b", "c]]}"]},
    {"isPartial": False},
    {"warnings": []},
    {"warnings": None},
    {"trace": {"message": "[[x]]", "children": [[[1]]]}},
]  # fmt: skip


@pytest.mark.parametrize("how", [COMPACT, SPACED], ids=["compact", "spaced"])
@pytest.mark.parametrize("more", ENVELOPES, ids=json.dumps)
@pytest.mark.parametrize("is_before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("result", [matrix(TWO), vector([({"pod": "a]]"}, (1, "2"))]), []], ids=["m", "v", "none"])
def test_the_envelope_may_say_more_before_or_after_the_result(result, is_before, more, how):
    whole = answer(result, "matrix" if "values" in (result or [{}])[0] else "vector")
    assert_read_as_json_does(as_bytes(more | whole if is_before else whole | more, **how))


@pytest.mark.parametrize("inner", [{"stats": {"a": [[1]]}}, {"isPartial": False}], ids=json.dumps)
@pytest.mark.parametrize("is_before", [True, False], ids=["before", "after"])
def test_the_data_may_say_more_than_the_result(inner, is_before):
    data = answer(matrix(TWO))["data"]
    content = as_bytes({"status": "success", "data": inner | data if is_before else data | inner})
    assert_read_as_json_does(content)


@pytest.mark.parametrize("kind", ["matrix", "vector"])
@pytest.mark.parametrize("how", [COMPACT, SPACED], ids=["compact", "spaced"])
@pytest.mark.parametrize("is_before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("result", ["full", "empty"])
@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"warnings": ["store 10.0.0.7 [[x]] not reachable"]}, "store 10.0.0.7 [[x]] not reachable"),
        ({"warnings": ["a", "b"]}, "a"),
        ({"isPartial": True}, "isPartial is true"),
    ],
    ids=["thanos", "two", "victoria"],
)
def test_a_partial_answer_is_no_data(kind, how, is_before, result, more, words):
    series = matrix(TWO) if kind == "matrix" else vector([({"pod": "a"}, (1, "2"))])
    whole = answer(series if result == "full" else [], kind)
    with pytest.raises(PartialAnswer) as caught:
        parse_answer(as_bytes(more | whole if is_before else whole | more, **how))
    assert str(caught.value) == words


@pytest.mark.parametrize(
    "document",
    [
        answer(matrix(TWO)),
        answer(matrix(TWO), infos=["x"]),
        {"infos": ["x"]} | answer(matrix(TWO)),
        answer(vector([({"pod": "a]]"}, (1, "2")), ({"pod": "b"}, (1, "3"))]), "vector"),
        answer([]),
    ],
    ids=["matrix", "matrix-infos-after", "matrix-infos-before", "vector", "empty"],
)
@pytest.mark.parametrize("how", [COMPACT, SPACED], ids=["compact", "spaced"])
def test_an_answer_that_was_cut_off_anywhere_is_bad(document, how):
    content, wrong = as_bytes(document, **how), []
    for length in range(len(content)):
        try:
            wrong.append((length, content[:length][-30:], parse_answer(content[:length])))
        except BadAnswer:
            continue
        except Exception as error:  # noqa: BLE001 - anything else would be a traceback
            wrong.append((length, content[:length][-30:], repr(error)))
    assert wrong == []


def test_what_the_server_says_of_an_error_is_kept():
    document = {"status": "error", "errorType": "execution", "error": "query timed out in [[x]]"}
    with pytest.raises(BadAnswer, match="query timed out in"):
        parse_answer(as_bytes(document))


def test_an_error_beside_data_is_an_error():
    with pytest.raises(BadAnswer, match="boom"):
        parse_answer(as_bytes(answer(matrix(TWO)) | {"status": "error", "error": "boom"}))


HISTOGRAM = {"count": "3", "sum": "7", "buckets": [[3, "-0.001", "0.001", "2"], [0, "1", "2", "1"]]}
NATIVE = {"metric": {"pod": "h"}, "histograms": [[1.5, HISTOGRAM], [2.5, HISTOGRAM]]}
FLOATS = matrix(TWO)


@pytest.mark.parametrize(
    "result",
    [
        [NATIVE],
        [NATIVE, *FLOATS],
        [*FLOATS, NATIVE],
        [FLOATS[0], NATIVE, FLOATS[1]],
        [FLOATS[0] | {"histograms": NATIVE["histograms"]}, FLOATS[1]],
        [FLOATS[0], FLOATS[1] | {"histograms": NATIVE["histograms"]}],
        [{"metric": {"pod": "h"}, "histogram": [1.5, HISTOGRAM]}, {"metric": {"pod": "v"}, "value": [1.5, "2"]}],
    ],
    ids=["alone", "first", "last", "between", "with-values-first", "with-values-last", "vector"],
)
def test_native_histograms_take_nothing_away_from_the_values_beside_them(result):
    assert_read_as_json_does(as_bytes(answer(result)))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html><title>Log in</title></html>",
        b"null",
        b"[]",
        b'"x"',
        b'{"status":"success"}',
        b'{"status":"success","data":null}',
        b'{"status":"success","data":["pod","container"]}',
        b'{"status":"success","data":{"resultType":"scalar","result":[1,"2"]}}',
        b'{"status":"success","data":{"resultType":"string","result":[1,"up"]}}',
        b'{"status":"success","data":{"result":[{"value":[1,"2"]}]}}',
        b'{"status":"success","data":{"result":[{"metric":{},"value":[1]}]}}',
        b'{"status":"success","data":{"result":[{"metric":{},"value":[1,"soon"]}]}}',
        b'{"status":"success","data":{"result":[{"metric":[],"values":[[1,"2"]]}]}}',
        b'{"status":"success","data":{"result":[{"metric":{},"values":[[1,"2"],[3,"soon"]]}]}}',
        b'{"status":"success","data":{"result":[{"metric":{},"values":[[1,"2"],["soon","3"]]}]}}',
        b'{"status":"success","data":{"result":[{"metric":{},"values":[[1,"2"],[3]]}]}}',
        b'{"status":"success","data":{"result":[{"metric":{},"values":[[1,"2"]]}]}}{"status":"success"}',
        b'\xff\xfe{"status":"success","data":{"result":[]}}',
        b'{"status":"success","data":{"result":[{"metric":{"a":"\xff"},"values":[[1,"2"]]}]}}',
    ],
)
@pytest.mark.filterwarnings("default::DeprecationWarning")  # as at the command line
def test_what_is_no_answer_to_a_query_is_bad(content):
    with pytest.raises(BadAnswer):
        parse_answer(content)
