"""What the strategies are made of: the encoder and its surgery, learning from a teacher, INT8, the deployed model."""
