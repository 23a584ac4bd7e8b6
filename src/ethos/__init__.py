"""Ethos Vision Optimizer: object detectors that really run on Arm Ethos NPUs."""

__version__ = "0.1.0"
