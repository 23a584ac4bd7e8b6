"""Networks: levels, activations, export head."""
