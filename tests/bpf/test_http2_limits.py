"""http2.bpf.c in user space: many streams, long names, many frames, tables that overflow."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bpf.layout import Protocol
from tests.bpf.http2_traffic import End, Wire, greet
from tests.bpf.http2_wire import (
    CALL,
    CALLED,
    DATA,
    END_HEADERS,
    END_STREAM,
    GET,
    HEADERS,
    OK,
    PING,
    Script,
    call,
    counts,
    frame,
)
from tests.bpf.segments import ANSWERS, REQUESTS, losses

SETTINGS = settings(derandomize=True, max_examples=150, deadline=None)


@pytest.mark.parametrize("at_once", [1, 16, 17, 100, 250, 528])
def test_as_many_streams_at_once_as_servers_allow(native, at_once):
    """Sixteen have a place from the start; further ones make room."""
    ends = End(Random(1)), End(Random(2))
    wire = Wire(native, Random(3))
    greet(wire)
    for turn in range(3):
        streams = [2 * number + 1 for number in range(turn * at_once, (turn + 1) * at_once)]
        for stream in streams:
            wire.put(REQUESTS, ends[0].message(stream, GET, ends=True))
        wire.flush(REQUESTS)
        for stream in Random(turn).sample(streams, at_once):
            wire.put(ANSWERS, ends[1].message(stream, [(":status", "200")], ends=True))
        wire.flush(ANSWERS)
    assert counts(native) == {("GET", "/get", Protocol.HTTP2, 200): 3 * at_once}
    assert losses(native) == {}


def test_more_than_that_is_a_counted_loss(native):
    ends, wire = (End(Random(1)), End(Random(2))), Wire(native, Random(3))
    greet(wire)
    for stream in range(1, 2 * 2000, 2):
        wire.put(REQUESTS, ends[0].message(stream, GET, ends=True))
    wire.flush(REQUESTS)
    for stream in range(1, 2 * 2000, 2):
        wire.put(ANSWERS, ends[1].message(stream, OK, ends=True))
    wire.flush(ANSWERS)
    lost = losses(native)
    assert counts(native).total() + lost["PIPELINED"] == 2000
    assert set(lost) == {"PIPELINED"}
    assert lost["PIPELINED"] == 2000 - 528


def test_every_byte_of_a_path_is_decoded(native):
    for byte in range(1, 256):
        if byte in b" ?\r\n/":  # ends a path, or is part of its form
            continue
        script = Script(native)
        path = b"/a" + bytes([byte]) * 3 + b"~z"
        coded = script.client.huffman_coder.encode(path)
        block = b"\x82\x86\x04" + bytes([0x80 | len(coded)]) + coded
        script.say(REQUESTS, frame(HEADERS, 1, block, END_STREAM | END_HEADERS))
        script.tell(1)
        assert counts(native) == {("GET", path.decode("latin-1"), Protocol.HTTP2, 200): 1}


@pytest.mark.parametrize("length", [111, 112, 113, 127, 128, 129, 200, 5000])
@pytest.mark.parametrize("huffman", [True, False])
def test_a_long_path_is_cut_and_said_so(native, length, huffman):
    script = Script(native)
    fields = [(":method", "GET"), (":path", "/" + "p" * (length - 1)), (":scheme", "http")]
    for stream in (1, 3):
        script.say(REQUESTS, frame(HEADERS, stream, script.client.encode(fields, huffman=huffman), 5))
        script.tell(stream)
    assert counts(native).total() == 2
    text = native.text_of(native.counted_at(0).contents.key.route).contents
    assert (bool(text.whole), text.length) == (length < 112, min(length, 112))


@pytest.mark.parametrize("frames", [1000, 1100, 30_000])
def test_more_frames_in_a_segment_than_one_call_reads(native, frames):
    script = Script(native)
    call(script, 1, 14)
    script.ask(3, CALL)
    script.tell(3, [*OK, ("content-type", "application/grpc")], END_HEADERS)
    script.say(ANSWERS, frame(DATA, 3, b"\0\0\0\0\0") * frames)
    script.tell(3, [("grpc-status", "14")])
    for stream in (5, 7):
        call(script, stream, 14)
    assert counts(native) == {(*CALLED, 14): 4}
    assert losses(native) == {}


def test_more_frames_in_a_segment_than_all_calls_read_is_a_counted_loss(native):
    script = Script(native)
    script.say(ANSWERS, frame(PING, 0, bytes(8)) * 40_000)
    assert losses(native) == {"LONG_SEGMENT": 1}


def test_an_entry_that_is_larger_than_the_table_empties_it(native):
    script = Script(native)
    script.ask(1)  # its path goes into the table
    script.tell(1)
    large = b"\x40\x01x\x7f" + bytes([0x80 | (5000 - 127) & 0x7F, (5000 - 127) >> 7]) + b"v" * 5000
    known = b"\x82\x86\x04\x04/two" + large
    script.say(REQUESTS, frame(HEADERS, 3, known, END_STREAM | END_HEADERS))
    script.say(REQUESTS, frame(HEADERS, 5, b"\x82\x86\x44\x06/three", END_STREAM | END_HEADERS))
    script.say(REQUESTS, frame(HEADERS, 7, b"\x82\x86\xbe", END_STREAM | END_HEADERS))
    for stream in (3, 5, 7):
        script.tell(stream)
    paths = Counter({path: total for (_, path, _, _), total in counts(native).items()})
    assert paths == {"/get": 1, "/two": 1, "/three": 2}


@SETTINGS
@given(st.binary(min_size=1, max_size=400))
def test_no_header_block_keeps_the_next_request_from_being_counted(native, block):
    script = Script(native)
    script.say(REQUESTS, frame(HEADERS, 1, block, END_STREAM | END_HEADERS))
    script.tell(1)
    script.ask(3)
    script.tell(3)
    assert counts(native).total() == 2
