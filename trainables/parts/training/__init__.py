"""What training is helped by: the teacher, embeddings, memory."""
