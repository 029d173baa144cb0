"""Names that the running kernel gives its own numbers, from its type information (BTF)."""

from __future__ import annotations

import ctypes

from bpf import libbpf

_ENUM = 6  # BTF_KIND_ENUM


class _Type(ctypes.Structure):
    """``struct btf_type``; an enum's values follow it."""

    _fields_ = [("name", ctypes.c_uint32), ("info", ctypes.c_uint32), ("size", ctypes.c_uint32)]


class _Value(ctypes.Structure):
    """``struct btf_enum``."""

    _fields_ = [("name", ctypes.c_uint32), ("number", ctypes.c_int32)]


def enum_names(enum: str) -> dict[int, str]:
    """The names of an enum's values, by number; none where this kernel has no such enum, or no type information."""
    lib = libbpf.library()
    types = lib.btf__load_vmlinux_btf()
    if not types:
        return {}
    try:
        identifier = lib.btf__find_by_name_kind(types, enum.encode(), _ENUM)
        if identifier < 0:
            return {}
        address = lib.btf__type_by_id(types, identifier)
        values = _Type.from_address(address).info & 0xFFFF
        found = (_Value * values).from_address(address + ctypes.sizeof(_Type))
        return {each.number: lib.btf__name_by_offset(types, each.name).decode() for each in found}
    finally:
        lib.btf__free(types)
