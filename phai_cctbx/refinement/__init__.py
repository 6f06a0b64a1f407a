"""Least squares with smtbx, and completion of a structure by difference maps."""
