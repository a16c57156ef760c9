"""Everything after training: from a trained model to files that phones and microcontrollers run."""
