"""The works that a result stands on, as ``--citations`` prints them."""

from __future__ import annotations

# cctbx
import libtbx.phil

_WORKS = {
    "phai": """
  authors = Larsen AS, Rekis T, Madsen AO
  title = PhAI: a deep-learning approach to solve the crystallographic phase problem
  year = 2024
  journal = Science
  volume = 385
  pages = 522-528
  doi_id = 10.1126/science.adn2777
""",
    "charge_flipping": """
  authors = Oszlanyi G, Suto A
  title = Ab initio structure solution by charge flipping
  year = 2004
  journal = Acta Cryst.
  volume = A60
  pages = 134-141
  doi_id = 10.1107/S0108767303027569
""",
    "smtbx": """
  authors = Bourhis LJ, Dolomanov OV, Gildea RJ, Howard JAK, Puschmann H
  title = The anatomy of a comprehensive constrained, restrained refinement program for the \
          modern computing environment - Olex2 dissected
  year = 2015
  journal = Acta Cryst.
  volume = A71
  pages = 59-75
  doi_id = 10.1107/S2053273314022207
""",
    "hirshfeld": """
  authors = Capelli SC, Burgi HB, Dittrich B, Grabowsky S, Jayatilaka D
  title = Hirshfeld atom refinement
  year = 2014
  journal = IUCrJ
  volume = 1
  pages = 361-379
  doi_id = 10.1107/S2052252514014845
""",
    "pyscf": """
  authors = Sun Q, Zhang X, Banerjee S, Bao P, Barbry M, et al
  title = Recent developments in the PySCF program package
  year = 2020
  journal = J. Chem. Phys.
  volume = 153
  pages = 024109
  doi_id = 10.1063/5.0006074
""",
}


def citations(*names: str):
    """Citations for `ProgramTemplate.citations`; cctbx adds its own.

    Parameters
    ----------
    names : str
        Of ``phai``, ``charge_flipping``, ``smtbx``, ``hirshfeld``, ``pyscf``.
    """
    blocks = [f"citation {{\n  article_id = {name}\n{_WORKS[name]}}}\n" for name in names]
    return libtbx.phil.parse("".join(blocks))
