"""Sweeps: cells over axes, the same budget for each, trained here or by a scheduler's own files, judged and reported.

Words used throughout
  axis     what cells differ in: 'objective', 'model', 'task', 'seed', or any name with options of its own.
  label    the name of one option of an axis, as it stands in directories and in the report.
  cell     one run: an option of each axis, in a directory of its own.
  chain    cells of which each begins with the weights of the one before.
  row      the cells that differ in their seed alone; a line of the report.
"""
