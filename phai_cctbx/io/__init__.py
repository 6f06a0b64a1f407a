"""Any input file to ``CrystalData``, and results to files."""
