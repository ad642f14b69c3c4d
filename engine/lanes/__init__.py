"""Batching and the lanes: the threads that compute, and the only thing that submits work to them."""
