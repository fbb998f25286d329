"""Prompted tasks, T0's kind: a data set of fields, several prompts over it, a seqio Task for each of them."""
