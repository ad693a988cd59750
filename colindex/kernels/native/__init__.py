"""The kernels in C++, where they were built: importing this fails with ImportError where they were not."""
