"""Training with Ultralytics as engine."""
