"""NPU compilers and figures."""
