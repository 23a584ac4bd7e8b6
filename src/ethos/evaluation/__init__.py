"""Scores under a stated protocol."""
