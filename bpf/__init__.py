"""Kernel side: the programs (``*.bpf.c``) and the loader that brings them up."""
