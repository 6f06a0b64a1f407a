"""The command phai_cctbx.import_phai: the published checkpoint of PhAI becomes a model file."""

from __future__ import annotations

from pathlib import Path

# cctbx
from libtbx.program_template import ProgramTemplate
from libtbx.utils import Sorry

from phai_cctbx.io.atomic_file import replacing
from phai_cctbx.network.model_file import ModelFileError
from phai_cctbx.network.phai_file import SOURCE, import_checkpoint, load_phai
from phai_cctbx.programs.citations import citations
from phai_cctbx.programs.command import log_to
from phai_cctbx.programs.phai_examples import phases_as_published, read_examples
from phai_cctbx.version import __version__

#: An example comes out as published where this share of |F|^2 has the published phase. The authors
#: computed in half precision, which turns some weak reflections and may end on another origin.
AS_PUBLISHED = 0.99


class Program(ProgramTemplate):
    """The command phai_cctbx.import_phai."""

    program_name = "phai_cctbx.import_phai"
    version = __version__
    description = f"""
Turns the published checkpoint of PhAI into a model file for strategy=phai.

  phai_cctbx.import_phai PhAI_model.pth
  phai_cctbx.import_phai PhAI_model.pth example_data.txt
  phai_cctbx.solve NAME.ins strategy=phai model=phai.pt

The authors publish the checkpoint at
{SOURCE}
and ten examples in their repository; with them the command shows that the
imported network gives the published phases.
"""
    epilog = ""
    citations = citations("phai")
    datatypes = ["phil"]
    master_phil_str = """
input {
  checkpoint = None
    .type = str
    .help = PhAI_model.pth of the authors
  examples = None
    .type = str
    .help = example_data.txt of the authors, to check the network with
}
output {
  model = phai.pt
    .type = str
    .help = Model file to write
}
"""

    @staticmethod
    def file_parameters(arguments):
        """The checkpoint, and the examples where they are named."""
        examples = [name for name in arguments if Path(name).suffix.lower() == ".txt"]
        checkpoints = [name for name in arguments if name not in examples]
        if len(checkpoints) > 1 or len(examples) > 1:
            raise Sorry(f"One checkpoint at a time: found {' '.join(arguments)}.")
        named = {"input.checkpoint": checkpoints, "input.examples": examples}
        return {name: found[0] for name, found in named.items() if found}

    def validate(self):
        """Refuse what cannot work before any long work."""
        if self.params.input.checkpoint is None:
            raise Sorry("No input: phai_cctbx.import_phai PhAI_model.pth (--help tells more).")
        target = Path(self.params.output.model)
        if target.is_dir():
            raise Sorry(f"{target} is a folder: name a file by output.model=FILE.")
        if target.exists() and not self.params.output.overwrite:
            raise Sorry(f"{target} exists: set overwrite=True, or name another model=FILE.")

    def run(self):
        """Import, and check against the examples where there are any."""
        source, target = self.params.input, self.params.output.model
        examples = read_examples(source.examples) if source.examples else []
        try:
            with replacing(target) as temporary:
                self.metadata = import_checkpoint(source.checkpoint, temporary)
                self._say(f"{source.checkpoint}: the network of PhAI, {self.metadata.citation}")
                with log_to(self.logger):
                    shares = phases_as_published(load_phai(temporary)[0], examples)
                self._judge(source.checkpoint, shares)
        except ModelFileError as error:
            raise Sorry(f"{error}. The authors publish it at {SOURCE}.") from error
        self._say(f"{target} written: phai_cctbx.solve NAME.ins strategy=phai model={target}")

    def _judge(self, checkpoint, shares):
        """Refuse a network that does not give what was published for most examples."""
        n_same = sum(share >= AS_PUBLISHED for share in shares)
        verdict = f"{n_same} of {len(shares)} examples come out as published"
        if 2 * n_same < len(shares):
            raise Sorry(
                f"{checkpoint}: only {verdict}, so that no model was written. Are checkpoint and"
                " examples of one version?"
            )
        if shares:
            self._say(verdict)

    def _say(self, line):
        self.logger.write(line + "\n")

    def get_results(self):
        """The `PhaiMetadata` of the file written."""
        return self.metadata
