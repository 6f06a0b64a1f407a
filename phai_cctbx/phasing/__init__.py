"""Normalisation, phasing strategies, origins and scoring."""
