"""Our models as Hugging Face's, and theirs as ours: weights, configuration, vocabulary. No torch, no transformers."""
