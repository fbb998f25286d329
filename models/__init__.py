"""The decoder: configuration, layers, attention, output head, logical axes. Flax Linen; knows nothing of the rest.

Shape letters in names: B batch, L length, V vocabulary, D embed_dim, H query heads, K key-value heads, E head_dim, F
mlp_dim, N scored positions of a row.
"""
