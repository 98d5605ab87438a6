"""Kernels: njit functions on plain arrays; twins in tests/naive.py."""
