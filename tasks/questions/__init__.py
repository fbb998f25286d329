"""What every trained model is asked alike, whatever its objective."""
