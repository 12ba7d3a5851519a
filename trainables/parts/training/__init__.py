"""Parts of training: what a teacher gives, trained word embeddings, memory."""
