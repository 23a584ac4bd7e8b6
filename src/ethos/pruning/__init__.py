"""Structured pruning: fewer channels in whole layers, chosen by what they cost on an NPU."""
