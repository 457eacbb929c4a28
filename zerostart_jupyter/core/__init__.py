"""What all three engines stand on: standard library only, no Jupyter, no torch."""
