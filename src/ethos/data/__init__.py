"""Data sets: sources, split, checks."""
