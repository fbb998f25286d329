"""Fine-tuning probes: how much a trained decoder helps another task."""
