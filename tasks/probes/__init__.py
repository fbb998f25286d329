"""What fine-tuning probes are made of: labelled texts and questions with their answers, by split."""
