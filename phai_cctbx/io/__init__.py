"""Input and output: any file of observations in, every result file out.

Input
-----
``read.read(path, hkl=None) -> crystal_data.CrystalData``

Everything that cannot be used ends in one ``libtbx.utils.Sorry`` that names
the file, the place in it, what was found and what to do.
"""
