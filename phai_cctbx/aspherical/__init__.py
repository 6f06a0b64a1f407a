"""Aspherical form factors: tables, Hirshfeld atoms and the quantum-chemistry worker."""
