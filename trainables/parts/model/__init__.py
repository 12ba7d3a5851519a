"""The encoder: its layers, its surgery, its form on disk."""
