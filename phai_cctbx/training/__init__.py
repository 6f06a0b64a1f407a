"""Training in torch and numpy alone: artificial crystals, diffraction, the training loop."""
