"""What is masked together: words, collocations (PMI-masking) and salient spans, found once in the text."""
