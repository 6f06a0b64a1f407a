"""Section of a report on a known molecule: what speaks for it, atom by atom and level by level."""

from __future__ import annotations

import math

from phai_cctbx.io.report.page import Html, badge, html, keys, table


def molecule_section(known, proposals=None) -> Html:
    """HTML of the section.

    Parameters
    ----------
    known : phai_cctbx.programs.molecule.MoleculeResult
    proposals : phai_cctbx.programs.proposal.MoleculeProposals, optional
        Where the molecule was not given but proposed.
    """
    judgement = known.judgement
    gap = judgement.log_likelihood_gap
    figures = keys(
        [
            ("held-out R", f"{judgement.held_out_r:.3f}"),
            (
                "log-likelihood above the next placement",
                f"{gap:.1f}" if math.isfinite(gap) else "no other found",
            ),
            ("strain, estimated deviations", f"{judgement.restraint_rms:.2f}"),
            ("R1 as placed", f"{known.placed.best.r1:.3f}"),
        ]
    )
    names = ", ".join(dict.fromkeys(molecule.name for molecule in known.molecules))
    told = (
        f"{proposals.statement if proposals else 'Given:'} {names}; {len(known.molecules)} in the"
        " asymmetric unit."
        " Each atom is left out of the phases in turn, and what the density then shows there is"
        " compared with the atom."
    )
    return Html(
        f"<section><h2>Known molecule</h2><p>{html(told)}</p>{figures}"
        f"<h3>Atoms</h3>{atom_table(judgement)}"
        f"<h3>Levels of refinement</h3>{level_table(known.refined)}</section>"
    )


def atom_table(judgement) -> Html:
    """What the density says of every atom, and of every fragment."""
    rows = [
        [
            figure.label,
            f"{figure.correlation:.2f}",
            f"{100 * figure.share:.0f} %" if with_share else "",
            badge("not shown by the data", "bad") if figure.flagged else "",
        ]
        for figures, with_share in ((judgement.atoms, True), (judgement.fragments, False))
        for figure in figures
    ]
    return table(("Left out", ">Map correlation", ">Density found", ""), rows)


def level_table(refined) -> Html:
    """Held-out R against the number of parameters; more of them are taken where it falls."""
    rows = [
        [
            level.name,
            str(level.n_parameters),
            str(level.n_restraints),
            f"{level.held_out_r:.3f}",
            "taken" if level.name == refined.level.name else "",
        ]
        for level in refined.levels
    ]
    return table(("Level", ">Parameters", ">Restraints", ">Held-out R", ""), rows)
