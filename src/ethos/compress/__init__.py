"""Conversion and quantization."""
