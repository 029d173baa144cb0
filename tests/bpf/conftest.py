"""The kernel programs compiled for user space, once per session."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from bpf.layout import CgroupCpu, RequestKey, RequestStats, RouteText

HERE = Path(__file__).parent
SOURCES = HERE.parents[1] / "bpf"


class Counted(ctypes.Structure):
    """``struct counted``: an entry of map ``requests``."""

    _fields_ = [("key", RequestKey), ("stats", RequestStats)]


@pytest.fixture(scope="session")
def native(tmp_path_factory):
    """The functions of native.c."""
    compiler = shutil.which("cc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    build = tmp_path_factory.mktemp("native")
    (build / "bpf").mkdir()
    for header in ("helpers", "tracing", "endian"):  # native.c says what these would
        (build / "bpf" / f"bpf_{header}.h").touch()
    library = build / "native.so"
    flags = ["-O2", "-w", "-shared", "-fPIC", "-Wl,-Bsymbolic", f"-I{build}", f"-I{SOURCES}"]
    subprocess.run([compiler, *flags, "-o", library, HERE / "native.c"], check=True)
    functions = ctypes.CDLL(str(library))
    functions.reset.restype = ctypes.POINTER(CgroupCpu)
    for name in ("play", "step"):
        getattr(functions, name).argtypes = [ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64]
    functions.run.argtypes = [ctypes.c_uint64, ctypes.c_uint64]
    functions.run.restype = None
    functions.answer.argtypes = [ctypes.c_uint64, ctypes.c_uint32]
    functions.switched.argtypes = [ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_bool]
    functions.ticked.argtypes = [ctypes.c_uint64, ctypes.c_uint64, ctypes.c_void_p]
    for name in ("switched", "ticked", "charged_by_scheduler"):
        getattr(functions, name).restype = ctypes.c_uint64
    functions.segment.argtypes = [ctypes.c_char_p, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_bool, ctypes.c_uint32]
    functions.segment_at.argtypes = [ctypes.c_char_p, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_uint32]
    functions.mark.argtypes = [ctypes.c_uint64, ctypes.c_uint64]
    functions.make_kinds.argtypes = [ctypes.c_uint64]
    for name in ("mark", "allow", "make_kinds"):
        getattr(functions, name).restype = None
    functions.at.argtypes = [ctypes.c_uint64]
    functions.at.restype = None
    functions.ended.argtypes = [ctypes.c_uint32, ctypes.c_int]
    functions.was_read.restype = functions.spoke_http2.restype = ctypes.c_bool
    functions.counted_at.restype = ctypes.POINTER(Counted)
    functions.lost_by.restype = ctypes.c_uint64
    functions.text_of.argtypes = [ctypes.c_uint64]
    functions.text_of.restype = ctypes.POINTER(RouteText)
    functions.path_in.restype = ctypes.c_uint64
    functions.latency_bucket_of.argtypes = [ctypes.c_uint64]
    functions.delay_bucket_of.argtypes = [ctypes.c_uint32]
    for name in ("delay_bucket_of", "latency_bucket_of", "method_in", "status_in"):
        getattr(functions, name).restype = ctypes.c_uint32
    return functions
