"""Pre-flight: whether this machine and this project can run the pipeline, before it starts."""
