"""Random molecules as SMILES strings, grown from ring systems, linkers and substituents.

The fragments are those that are common in published organic and metal-organic structures. A
fragment is written head first: its first atom is bonded to what came before. ``{}`` is a place
for a substituent or a further branch; ``&1`` opens and closes a ring.
"""

from __future__ import annotations

import re

import numpy as np

#: Ring systems and their weights.
RINGS = {
    "c&1c{}c{}c{}c{}c{}&1": 50, "c&1c{}nc{}c{}c{}&1": 3, "c&1c{}c{}nc{}c{}&1": 4,
    "c&1nc{}c{}c{}c{}&1": 4, "c&1nc{}nc{}c{}&1": 2, "c&1nc{}c{}nc{}&1": 1.5, "c&1nnc{}c{}c{}&1": 1,
    "c&1nc{}nc{}n&1": 1.5, "c&1c{}c{}c{}o&1": 2, "c&1c{}c{}c{}s&1": 3, "c&1nc{}c{}s&1": 2,
    "c&1c{}c{}c{}[nH]&1": 1.5, "c&1nc{}c{}[nH]&1": 1.5, "c&1nnc{}o&1": 1.5, "c&1nnc{}s&1": 1.5,
    "c&1c{}[nH]nc{}&1": 1, "c&1c{}nn(C)c{}&1": 1, "n&1c{}nc{}c{}&1": 2, "n&1nc{}c{}c{}&1": 2,
    "n&1nnc{}c{}&1": 1.5,
    "c&1nnn{}n&1": 0.7, "c&1c{}noc{}&1": 1,
    "c&1c{}c{}c&2c{}c{}c{}c{}c&2c{}&1": 4, "c&1cc{}cc&2c{}cccc&1&2": 2,
    "c&1c{}[nH]c&2c{}c{}c{}cc&1&2": 3, "c&1nc&2ccc{}cc&2[nH]&1": 2.5, "c&1nc&2ccc{}cc&2s&1": 1.5,
    "c&1nc&2ccc{}cc&2o&1": 1, "c&1c{}c{}nc&2ccc{}cc&1&2": 2, "c&1ccc&2nc{}ccc&2c&1": 1.5,
    "c&1ccc&2c(c&1)[nH]c&3ccc{}cc&2&3": 1, "n&1c&2ccc{}cc&2c&3ccc{}cc&1&3": 1,
    "c&1c&2ccccc&2c{}c&3ccccc&1&3": 1, "c&1cc(=O)oc&2cc{}ccc&1&2": 1.5,
    "c&1cc(=O)c&2ccc{}cc&2o&1": 1.5, "c&1ccc&2c(c&1)C(=O)c&3cc{}ccc&3C&2=O": 0.8,
    "N&1C(=O)c&2ccc{}cc&2C&1=O": 1.5, "N&1C(=O)CC{}C&1=O": 1, "C&1=C{}C(=O)C{}=C{}C&1=O": 0.5,
    "C&1CCC{}CC&1": 4, "C&1C{}CCCC&1": 2, "C&1CCCC&1": 2, "C&1CC&1": 1, "C&1CCC&1": 0.5,
    "N&1CCC{}CC&1": 2, "N&1CCN{}CC&1": 3, "N&1CCOCC&1": 3, "N&1CCCC&1": 2, "C&1CCN{}CC&1": 2,
    "C&1CCCO&1": 1, "C&1OC(C)(C)OC&1": 0.6, "C&1OCCO&1": 0.8, "C&1CSC{}N&1{}": 1,
    "C&1C&2CC&3CC&1CC(C&2)C&3": 1, "C&1C{}C&2CCC&1C&2": 0.8, "C&1CC&2CCC&1(C)C&2(C)C": 0.6,
    "C&1OC{}C(O)C(O)C&1O": 1, "C&1OC(CO)C(O)C(O)C&1O": 1.2,
    "C&1OC(COC(C)=O)C(OC(C)=O)C&1OC(C)=O": 0.6,
    "C&1CCC&2(C)C(C&1)CCC&3C&2CCC&4(C)C{}CCC&3&4": 1.2, "C&1CCC&2C(C&1)CCC&3CC{}CCC&2&3": 0.5,
    "C&1C{}CC&2=C(C&1)C{}c&3ccccc&3N&2": 0.5, "C&1C{}N{}C&1=O": 0.6, "N&1C(=O)NC{}C&1=O": 0.6,
    "c&1ccc&2OCOc&2c&1": 1.5, "c&1ccc&2OCCOc&2c&1": 1, "n&1ccc(=O)[nH]c&1=O": 1,
    "n&1cc{}c(=O)[nH]c&1=O": 1, "n&1cnc&2c(N)ncnc&1&2": 0.8, "n&1cnc&2c(=O)[nH]c(N)nc&1&2": 0.5,
    "n&1c(=O)n(C)c(=O)c&2c&1ncn&2C": 0.5, "B&1OC(C)(C)C(C)(C)O&1": 0.5, "C&1=NN{}C{}C&1": 0.8,
}  # fmt: skip
#: Links between two branches; the branch takes the place of the braces.
LINKS = {
    "{}": 16, "C{}": 6, "CC{}": 3, "CCC{}": 1.5, "C=C{}": 3, "C#C{}": 2, "O{}": 5, "OC{}": 4,
    "CO{}": 3, "S{}": 2, "SC{}": 1.5, "N{}": 2, "NC{}": 2, "CN{}": 2, "C(=O){}": 4,
    "C(=O)N{}": 7, "NC(=O){}": 6, "C(=O)O{}": 3, "OC(=O){}": 2, "C(=O)OC{}": 1.5, "C=N{}": 3,
    "C=NN{}": 1.5, "C=NNC(=O){}": 2, "N=N{}": 2, "S(=O)(=O)N{}": 2, "NS(=O)(=O){}": 2,
    "S(=O)(=O){}": 1.5, "NC(=O)N{}": 1.5, "NC(=S)N{}": 1.5, "C(=O)C=C{}": 2, "C(O){}": 2,
    "C(C){}": 2, "C(C)(C){}": 1, "C(=O)NN=C{}": 1.5, "OCCO{}": 0.8, "OCCCO{}": 0.4,
    "C(C(=O)OC){}": 0.7, "P(=O){}{}": 0.7, "P{}{}": 0.8, "C(O){}{}": 0.8, "N{}{}": 1,
    "[Si](C)(C){}": 0.6, "C(=C(C#N)C#N){}": 0.5, "[Se]{}": 0.3, "SS{}": 0.5, "CCCC{}": 0.5,
    "C(C#N){}": 0.6, "C{}{}C": 0.6, "CCCCC{}": 0.3, "S(=O){}": 0.5, "OP(=O)(OCC)O{}": 0.3,
}  # fmt: skip
#: Ends of a branch.
ENDS = {
    "F": 5, "Cl": 7, "Br": 5, "I": 2, "C": 14, "CC": 4, "C(C)C": 3, "C(C)(C)C": 3, "O": 9,
    "OC": 11, "OCC": 3, "N": 6, "N(C)C": 3, "N(CC)CC": 1, "[N+](=O)[O-]": 8, "C#N": 4,
    "C(F)(F)F": 4, "C(=O)O": 6, "C(=O)OC": 4, "C(=O)OCC": 4, "C(=O)N": 3, "C=O": 2, "C(C)=O": 4,
    "NC(C)=O": 2, "SC": 2, "S": 0.5, "S(C)(=O)=O": 1.5, "S(N)(=O)=O": 1, "OC(F)(F)F": 0.7,
    "CO": 2, "CCO": 1, "CCl": 0.7, "CBr": 0.7, "C#C": 1, "C=C": 0.7, "CC=C": 0.7, "CCC": 1.5,
    "CCCC": 1.5, "OC(C)=O": 2, "OC(C)C": 0.6, "OCC(=O)O": 0.7, "CC(=O)O": 1, "C=NO": 0.8,
    "C(C)=NO": 0.6, "N=[N+]=[N-]": 0.7, "B(O)O": 0.7, "[Si](C)(C)C": 0.8, "P(=O)(O)O": 0.5,
    "OCC#C": 0.6, "C(N)=N": 0.4, "NN": 0.5, "C(=O)NN": 0.8, "N=C=S": 0.3, "SC#N": 0.3,
    "CCCCCC": 0.5, "OCCCC": 0.5, "C(=O)C(F)(F)F": 0.4, "NC(=O)OC(C)(C)C": 0.8, "NC(N)=S": 0.5,
}  # fmt: skip
#: Molecules without a ring.
CHAINS = {
    "C{}C{}": 3, "C{}CC{}": 3, "C{}CCC{}": 2, "C(=O){}C{}": 3, "OC(=O)CCC(=O)O": 1,
    "OC(=O)C(O)C(O)C(=O)O": 1, "OC(=O)C=CC(=O)O": 1, "OC(=O)CC(=O)O": 1, "NC(=O)N{}": 1,
    "NC(=S)N{}": 1.5, "C{}(O)C(O)C{}": 1, "C(C{})(C{})C{}": 1, "OC(=O)CC(O)(C(=O)O)CC(=O)O": 0.7,
    "C{}C(=O)NC{}": 1.5, "N#CC(C#N)=C{}{}": 0.7, "C{}=C{}": 1.5, "CS(=O)(=O)NC{}": 0.7,
    "NC(=O)C{}": 1, "CP(=O)(O)C{}": 0.3, "OCC(O)C(O)C(O)C(O)CO": 0.6, "C{}#CC#CC{}": 0.4,
}  # fmt: skip
#: Side chains of the amino acids.
SIDE_CHAINS = (
    "", "C", "C(C)C", "CC(C)C", "C(C)CC", "CO", "C(C)O", "CS", "CCSC", "CC(=O)O", "CCC(=O)O",
    "CC(N)=O", "CCC(N)=O", "Cc&1ccccc&1", "Cc&1ccc(O)cc&1", "Cc&1c[nH]c&2ccccc&1&2",
    "Cc&1cnc[nH]&1", "CCCCN", "CCCNC(N)=N",
)  # fmt: skip
#: Sugars and cyclitols, head at the anomeric carbon; a place takes one of `SUGAR_ENDS`.
SUGARS = {
    "C&1OC(C{})C{}C{}C&1{}": 5, "C&1OC(C)C{}C{}C&1{}": 1.5, "C&1OC(C(=O)O)C{}C{}C&1{}": 0.7,
    "C&1OCC{}C{}C&1{}": 2, "C&1OC(CO)C{}C&1{}": 3, "C&1(CO)OC(CO)C{}C&1{}": 1.5,
    "C&1(CO)OCC{}C{}C&1{}": 1, "C&1C{}C{}C{}C{}C&1{}": 1.2, "CC{}C{}C{}CO": 1, "CC{}C{}C(=O)O": 0.6,
}  # fmt: skip
SUGAR_ENDS = {"(O)": 30, "(OC(C)=O)": 2, "(OC)": 2, "": 2, "(N)": 1, "(NC(C)=O)": 2, "(F)": 0.6}
#: What a sugar is bonded to; it takes the place of the braces.
SUGAR_HEADS = {
    "O{}": 8, "CO{}": 3, "N{}": 0.5, "n&1({})ccc(=O)[nH]c&1=O": 1, "n&1({})ccc(N)nc&1=O": 0.7,
    "n&1({})cnc&2c(N)ncnc&1&2": 1, "S{}": 0.3,
}  # fmt: skip
#: Atoms of one sugar, about; of two, share of those bonded by both anomeric carbons.
SUGAR_SIZE, ANOMERIC_SHARE = 10, 0.25
#: Shares of open chains, and of amino acids, peptides and sugars, among the neutral molecules.
CHAIN_SHARE, CHIRAL_SHARE = 0.08, 0.12
#: Of the latter.
PEPTIDE_SHARE = 0.6
#: Organic cations: heads that a branch follows, or whole ions.
CATIONS = {
    "[NH3+]C{}": 4, "[NH3+]CC{}": 2, "[NH3+]c&1ccc{}cc&1": 3, "[nH+]&1ccc{}cc&1": 5,
    "[nH+]&1cc{}ccc&1": 2, "C[n+]&1ccc{}cc&1": 2, "[NH2+]&1CCN{}CC&1": 2, "[NH2+]&1CCOCC&1": 1,
    "[NH2+](C{})C{}": 2, "C[NH+](C)C{}": 2, "C[N+](C)(C)C{}": 2, "C[N+](C)(C)C": 1,
    "CC[N+](CC)(CC)CC": 1.5, "CCCC[N+](CCCC)(CCCC)CCCC": 1, "Cn&1cc[n+](C{})c&1": 1.5,
    "[nH+]&1cc[nH]c&1": 1, "NC(N)=[NH2+]": 1, "NC{}=[NH2+]": 1,
    "c&1ccccc&1[P+](c&1ccccc&1)(c&1ccccc&1)C{}": 2,
    "c&1ccccc&1[P+](c&1ccccc&1)(c&1ccccc&1)c&1ccccc&1": 1.5,
    "[nH+]&1c{}cccc&1-c&1ccccn&1": 1, "[NH3+]C(C{})C(=O)O": 1.5, "CC[NH+](CC)CC": 1.5,
}  # fmt: skip
#: Organic anions.
ANIONS = {
    "[O-]C(=O){}": 6, "[O-]C(=O)C(=O)O": 1, "[O-]C(=O)C=CC(=O)O": 1, "[O-]S(=O)(=O)c&1ccc{}cc&1": 3,
    "[O-]c&1c([N+](=O)[O-])cc([N+](=O)[O-])cc&1[N+](=O)[O-]": 2, "[O-]C(=O)C(F)(F)F": 1.5,
    "[O-]S(=O)(=O)C(F)(F)F": 1.5, "[O-]S(=O)(=O)C": 1, "N#C[C-](C#N)C#N": 0.5,
    "[B-](c&1ccccc&1)(c&1ccccc&1)(c&1ccccc&1)c&1ccccc&1": 1.5, "[O-]P(=O)(O){}": 1,
}  # fmt: skip
#: Counter ions and solvents that crystals share, whole.
SMALL_CATIONS = ("[NH4+]", "[Na+]", "[K+]", "[Li+]", "[Cs+]", "[Rb+]")
SMALL_ANIONS = (
    "[Cl-]", "[Br-]", "[I-]", "[O-][N+](=O)[O-]", "[O-]Cl(=O)(=O)=O", "F[B-](F)(F)F",
    "OS(=O)(=O)[O-]", "OP(=O)(O)[O-]", "[S-]C#N",
    "Cc1ccc(cc1)S(=O)(=O)[O-]", "CC(=O)[O-]",
)  # fmt: skip
#: Further ions of salts and minerals, of any charge.
MINERAL_CATIONS = (
    "[Mg+2]", "[Ca+2]", "[Sr+2]", "[Ba+2]", "[Mn+2]", "[Fe+2]", "[Co+2]", "[Ni+2]", "[Cu+2]",
    "[Zn+2]", "[Cd+2]", "[Pb+2]", "[Al+3]", "[Cr+3]", "[Fe+3]", "[Y+3]", "[La+3]",
)  # fmt: skip
MINERAL_ANIONS = (
    "[F-]", "[OH-]", "[O-2]", "[S-2]", "[O-]S(=O)(=O)[O-]", "OP(=O)([O-])[O-]",
    "[O-]P(=O)([O-])[O-]", "[O-]C(=O)[O-]", "[O-]C(=O)C(=O)[O-]", "[O-]C=O", "[O-]I(=O)=O",
    "[O-][Si]([O-])([O-])[O-]", "[O-][As](=O)(O)O", "[O-]S(=O)(=O)C",
)  # fmt: skip
SOLVENTS = (
    "O", "CO", "CC#N", "CN(C)C=O", "ClCCl", "ClC(Cl)Cl", "Cc1ccccc1", "CCO", "CS(C)=O", "CC(C)=O",
    "C1CCOC1", "c1ccccc1", "CCOC(C)=O", "CC(=O)O", "OC=O",
)  # fmt: skip

#: Ligands; the donors carry atom maps, {} takes a substituent. Rings with all atoms mapped bind by
#: their faces.
LIGANDS = {
    "[n:1]&1c{}cc{}cc&1": 6, "[n:1]&1cc{}ccc&1": 2, "[n:1]&1cc[nH]c&1": 2, "[n:1]&1ccn{}c&1": 1.5,
    "[n:1]&1cc{}c[nH]&1": 1, "[N:1]#CC": 1.5, "[N-:1]=C=S": 1.5, "[N-:1]=[N+]=[N-]": 0.7,
    "[OH2:1]": 6, "[NH3:1]": 1.5, "[C-:1]#[O+]": 3, "[C-:1]#N": 1, "[Cl-:1]": 5, "[Br-:1]": 2,
    "[I-:1]": 1.2, "[O-:1]C(=O)C": 1.5, "[O-:1]C(=O)c&1ccc{}cc&1": 2.5, "[O-:1][N+](=O)[O-]": 1.2,
    "[P:1](c&1ccccc&1)(c&1ccccc&1)c&1ccccc&1": 2.5, "[P:1](C)(C)C": 0.7, "[O:1]=CN(C)C": 0.8,
    "[O:1]=S(C)C": 0.8, "[S-:1]c&1ccc{}cc&1": 0.8, "[O-:1]c&1c{}cccc&1": 1, "[CH3-:1]": 1,
    "[c-:1]&1ccc{}cc&1": 1.5, "[NH2:1]C": 0.7, "[S:1]=C(N)N": 0.8, "[OH:1]C": 0.8,
    "[n:1]&1ccccc&1-c&1cccc[n:2]&1": 4, "[n:1]&1cc{}ccc&1-c&1ccc{}c[n:2]&1": 2,
    "[n:1]&1cccc&2ccc&3ccc[n:2]c&3c&1&2": 4, "[NH2:1]CC[NH2:2]": 3, "CN(C)CC[NH2:1]": 0.5,
    "C[N:1](C)CC[N:2](C)C": 1, "[O-:1]C(C)=CC(C)=[O:2]": 4, "[O-:1]C(C(F)(F)F)=CC(C)=[O:2]": 0.8,
    "[O-:1]C(=O)C[NH2:2]": 2, "[O-:1]c&1cccc&2ccc[n:2]c&1&2": 2, "[O-:1]C(=O)C(=O)[O-:2]": 1.5,
    "[O-:1]c&1c{}cccc&1C=[N:2]c&1ccc{}cc&1": 3, "[O-:1]c&1c{}cccc&1C=[N:2]C": 1.5,
    "[S-:1]C(=[S:2])N(CC)CC": 1.5, "[O-:1]C(=[O:2])c&1ccc{}cc&1": 1, "[O-:1]C(=[O:2])C": 1,
    "[O-:1]C(=O)c&1cccc[n:2]&1": 2, "[n:1]&1ccccc&1-c&1[nH]cc[n:2]&1": 1,
    "[P:1](c&1ccccc&1)(c&1ccccc&1)CC[P:2](c&1ccccc&1)c&1ccccc&1": 1,
    "[c-:1]&1ccccc&1-c&1cccc[n:2]&1": 1.2, "[n:1]&1ccccc&1C=[N:2]c&1ccc{}cc&1": 1.5,
    "[NH2:1]c&1ccccc&1[NH2:2]": 0.5, "[O-:1]c&1ccccc&1[O-:2]": 0.7,
    "[cH:1]&1[cH:2][cH:3][c-:4]{}[cH:5]&1": 4, "C[c:1]&1[c:2](C)[c:3](C)[c-:4](C)[c:5]&1C": 1.5,
    "[cH:1]&1[cH:2][cH:3][cH:4][c:5]{}[cH:6]&1": 1.2,
    "C[c:1]&1[cH:2][cH:3][c:4](C(C)C)[cH:5][cH:6]&1": 1.5,
}  # fmt: skip

#: Chance that a free place stays empty, and that it takes an end rather than a branch.
EMPTY, END = 0.66, 0.62


class MoleculeGrammar:
    """Grows random SMILES.

    Parameters
    ----------
    rng : numpy.random.Generator
    chiral_share : float
        Of amino acids, peptides and sugars among the neutral molecules.
    """

    def __init__(self, rng: np.random.Generator, chiral_share: float = CHIRAL_SHARE):
        self.rng, self.chiral_share = rng, chiral_share
        self._next_ring = 10

    def _pick(self, table: dict[str, float]) -> str:
        weights = np.array(list(table.values()))
        return list(table)[self.rng.choice(len(table), p=weights / weights.sum())].strip()

    def _rings_closed(self, fragment: str) -> str:
        """The ring marks of one fragment replaced by numbers of its own."""
        labels = sorted(set(re.findall(r"&(\d)", fragment)))
        for label in labels:
            fragment = fragment.replace(f"&{label}", f"%{self._next_ring}")
            self._next_ring += 1
        return fragment

    def _filled(self, fragment: str, budget: int, must_branch: bool) -> str:
        """The fragment with its places filled; `budget` heavy atoms are left for them."""
        fragment = self._rings_closed(fragment)
        n_places = fragment.count("{}")
        if not n_places:
            return fragment
        order = self.rng.permutation(n_places)
        filling = [""] * n_places
        for rank, place in enumerate(order):
            left = budget - sum(len(re.findall("[A-Za-z]", f)) for f in filling)
            if left < 1 or (self.rng.random() < EMPTY and not (must_branch and rank == 0)):
                continue
            if left >= 6 and (must_branch and rank == 0 or self.rng.random() > END):
                filling[place] = self.branch(left)
            else:
                filling[place] = self._rings_closed(self._pick(ENDS))
        for text in filling:
            fragment = fragment.replace("{}", f"({text})" if text else "", 1)
        return fragment

    def branch(self, budget: int) -> str:
        """A linked ring system of at most about `budget` heavy atoms."""
        link = self._rings_closed(self._pick(LINKS))
        n_link = len(re.findall("[A-Za-z]", link))
        places = link.count("{}")
        for _ in range(places):
            ring = self.ring((budget - n_link) // places)
            link = link.replace("{}", f"({ring})" if places > 1 else ring, 1)
        return link

    def ring(self, budget: int) -> str:
        """A ring system and what is bonded to it."""
        fragment = self._pick(RINGS)
        left = budget - len(re.findall("[A-Za-z]", fragment))
        return self._filled(fragment, left, must_branch=left >= 8)

    def chain(self, budget: int) -> str:
        """A molecule that starts from an open chain."""
        return self._filled(self._pick(CHAINS), budget - 4, must_branch=True)

    def peptide(self, budget: int) -> str:
        """An amino acid or a peptide, neutral, as a zwitterion, or protected."""
        n_residues = int(np.clip(budget // 8, 1, 4))
        residues = []
        for _ in range(n_residues):
            side = self._rings_closed(SIDE_CHAINS[self.rng.integers(len(SIDE_CHAINS))])
            residues.append(f"[C@@H]({side})C(=O)" if side else "CC(=O)")
        kind = self.rng.random()
        if kind < 0.5:
            return "[NH3+]" + "N".join(residues) + "[O-]"
        head = "N" if kind < 0.7 else ("CC(=O)N" if kind < 0.85 else "CC(C)(C)OC(=O)N")
        return head + "N".join(residues) + ("O" if self.rng.random() < 0.5 else "OC")

    def sugar(self, budget: int) -> str:
        """A sugar, glycoside, nucleoside or disaccharide."""
        further = self._one_sugar() if budget >= 2 * SUGAR_SIZE else None
        if further and self.rng.random() < ANOMERIC_SHARE:
            return f"O({further}){self._one_sugar()}"
        sugar = self._one_sugar(further and f"(O{further})")
        return self._rings_closed(self._pick(SUGAR_HEADS)).replace("{}", sugar)

    def _one_sugar(self, substituent: str | None = None) -> str:
        """A sugar, head first, its places filled; one of them with the given substituent."""
        sugar = self._rings_closed(self._pick(SUGARS))
        places = sugar.count("{}")
        chosen = self.rng.integers(places)
        for place in range(places):
            given = substituent if place == chosen else None
            sugar = sugar.replace("{}", given or self._pick(SUGAR_ENDS), 1)
        return sugar

    def neutral(self, budget: int) -> str:
        """A neutral molecule of about `budget` heavy atoms."""
        self._next_ring = 10
        kind = self.rng.random()
        if kind < self.chiral_share:
            return (self.peptide if self.rng.random() < PEPTIDE_SHARE else self.sugar)(budget)
        return (self.chain if kind < self.chiral_share + CHAIN_SHARE else self.ring)(budget)

    def ion(self, budget: int, charge: int) -> str:
        """An organic cation (`charge` 1) or anion (-1)."""
        self._next_ring = 10
        fragment = self._pick(CATIONS if charge > 0 else ANIONS)
        place = fragment.find("{}")
        if 0 <= place:
            ring = self.ring(max(6, budget - len(re.findall("[A-Za-z]", fragment))))
            fragment = fragment.replace("{}", f"({ring})", 1)
        return self._filled(fragment, 4, must_branch=False)

    def ligand(self) -> str:
        """A ligand; the atoms that bind to the metal carry atom maps."""
        self._next_ring = 10
        return self._filled(self._pick(LIGANDS), 4, must_branch=False)
