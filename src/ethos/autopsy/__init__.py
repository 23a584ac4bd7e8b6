"""Where quantization lost accuracy."""
