"""Pretraining objectives: what is corrupted, what may be seen, what is scored.

One objective is one file. `base` holds the contract, `attention`, `loss` and `scoring` its parts that need no
TensorFlow; `random` and `units` the graph functions that objectives share. Nothing here knows of models, tasks,
launch or gin.
"""
