"""From text to sharded batches: corpora, vocabularies, units, seqio tasks, rows. Uses objectives; knows nothing of
launch.
"""
