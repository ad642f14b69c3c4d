"""What is computed over vectors and masks: ``reference`` defines each kernel, ``cpu`` computes the same, faster.

Knows nothing of collections, indexes or requests: arrays in, arrays out. The distribution ``kernels`` of Hugging Face
uses the same import name; ours has no version attribute, so that nobody takes it for that one.
"""
