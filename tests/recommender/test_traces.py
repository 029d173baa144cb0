import gzip

import numpy as np
import pytest

from profiles.errors import UsageError
from recommender.inputs.traces import Columns, read_workloads


def write(path, text):
    path.write_text(text)
    return path


def test_unix_seconds_milliseconds_and_dates_are_the_same_times(tmp_path):
    seconds = write(tmp_path / "a.csv", "ts,value\n1600000000,1\n1600000060,2\n")
    milliseconds = write(tmp_path / "b.csv", "time,value\n1600000000000,1\n1600000060000,2\n")
    dates = write(tmp_path / "c.csv", "timestamp,value\n2020-09-13 12:26:40,1\n2020-09-13T12:27:40Z,2\n")
    times = [read_workloads(path, "cpu")[0].pods[0].unix_seconds.tolist() for path in (seconds, milliseconds, dates)]
    assert times == [[1600000000.0, 1600000060.0]] * 3


@pytest.mark.parametrize(
    "written",
    [
        "2022-08-22 03:51:19.607158889 +0000 UTC m=+0.113112869",
        "Mon Aug 22 03:51:19 UTC 2022",
        "2022-08-22T05:51:19+02:00",
    ],
)
def test_dates_as_go_and_the_shell_write_them(tmp_path, written):
    path = write(tmp_path / "a.csv", f"time,value\n{written},1\n2022-08-22 03:52:19,2\n")
    assert read_workloads(path, "cpu")[0].pods[0].unix_seconds[0] == pytest.approx(1661140279, abs=1)


def test_of_very_many_columns_some_are_named(tmp_path):
    path = write(tmp_path / "a.csv", ",".join(f"c{index}" for index in range(300)) + "\n")
    with pytest.raises(UsageError) as caught:
        read_workloads(path, "cpu")
    assert caught.value.next_step.endswith("c19 and 280 more.")


def test_a_folder_of_traces_gzipped_or_not(tmp_path):
    write(tmp_path / "b.csv", "ts,value\n0,1\n60,2\n")
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"ts,value\n0,1\n60,2\n"))
    write(tmp_path / "README.md", "not a trace")
    assert [each.name for each in read_workloads(tmp_path, "cpu")] == ["a", "b"]


def test_columns_are_found_or_said(tmp_path):
    path = write(tmp_path / "a.csv", "when,cores,other\n0,1,7\n60,2,8\n")
    with pytest.raises(UsageError, match="which column holds the time is not clear"):
        read_workloads(path, "cpu")
    with pytest.raises(UsageError, match="which column holds the value"):
        read_workloads(path, "cpu", Columns(time="when"))
    found = read_workloads(path, "cpu", Columns("when", "cores"))[0].pods[0]
    assert found.values.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ts,value\nyesterday,1\n", "line 2: 'yesterday' is no time"),
        ("ts,value\n0,1\n60,many\n", "line 3: 'many' is no number"),
        ("", "cannot be read as CSV"),
        ("ts,value\n0,1\n60,2,3\n", "cannot be read as CSV"),
        ("ts,value\n", "has no usage in it"),
        ("ts,value\n0,1\n", "has no usage in it"),
    ],
)
def test_what_is_no_trace_is_one_sentence(tmp_path, text, message):
    with pytest.raises(UsageError, match=message):
        read_workloads(write(tmp_path / "a.csv", text), "cpu")


def test_nothing_there(tmp_path):
    with pytest.raises(UsageError, match="There is no"):
        read_workloads(tmp_path / "missing.csv", "cpu")
    with pytest.raises(UsageError, match="There is no trace in"):
        read_workloads(tmp_path, "cpu")


def test_what_was_repaired_is_counted(tmp_path):
    path = write(tmp_path / "a.csv", "ts,value\n0,1\n120,2\n60,-3\n60,4\n180,NaN\n240,inf\n600,5\n")
    coverage = read_workloads(path, "cpu")[0].pods[0].coverage
    assert (coverage.out_of_order, coverage.negative, coverage.duplicates) == (1, 1, 1)
    assert (coverage.missing, coverage.infinite, coverage.gaps) == (1, 1, 1)


def test_a_store_is_a_trace_too(recorded):
    found = {each.name: each for each in read_workloads(recorded, "cpu")}
    assert len(found["host/checkout/checkout"].pods[0].known) > 30
    assert np.all(found["host/checkout/checkout"].pods[0].known >= 0)
