"""The phasing network in torch and numpy alone: layers, symmetry tables, export and load."""
