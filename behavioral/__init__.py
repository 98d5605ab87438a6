"""Look-up models in HDF5 and the Numba kernels that read them."""
