"""Encoders: texts to embeddings, from a local Sentence-Transformers folder. Importing this loads nothing heavy."""
