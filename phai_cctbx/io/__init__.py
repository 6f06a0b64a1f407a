"""Input and output: any file of observations in, every result file out.

Input
-----
``read.read(path, hkl=None) -> crystal_data.CrystalData``
    .ins, .res, .hkl, .cif, .fcf, .mtz or a base name. What cannot be used ends
    in one ``libtbx.utils.Sorry`` that names the file, the place in it, what was
    found and what to do.

Output
------
Each writes one file in one step (a temporary name in the same folder, then a
rename), to any path, and returns the path. Whether a file may be replaced is
for the caller to ask before the work.

``write_res.write_res(path, data, solution, peaks=(), remarks=())``
    ``data`` is a ``CrystalData``, ``solution`` a ``Solution`` of ``refinement``.
``write_cif.write_cif(path, data, solution, prepared=None, geometry=True)``
``write_fcf.write_fcf(path, title, f_sq, fc_sq, scale_factor=1.0, wavelength=None)``
    ``fc_sq`` on the absolute scale, ``f_sq = scale_factor * fc_sq``.
``write_mtz.write_mtz(path, title="", wavelength=None, f_sq=, f_obs=, f_phased=,
confidence=, f_calc=, map_coefficients=, difference_coefficients=)``
``write_map.write_map(path, coefficients, f_000=None, label="phai_cctbx")``
``write_hkl.write_hkl(path, observations)``
``write_summary.write_json(path, summary)``, ``write_summary.write_eff(path, scope)``
``atomic_file.write_text(path, text)``, ``with atomic_file.replacing(path) as temporary:``
"""
