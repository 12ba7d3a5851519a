"""What strategies are built from: the encoder and its surgery, learning from a teacher, INT8, the deployed model."""
