"""The command phai_cctbx.train: trains a network, or goes on with one, and writes a model file."""

from __future__ import annotations

from pathlib import Path

import torch

# cctbx
from libtbx.program_template import ProgramTemplate
from libtbx.utils import Sorry

from phai_cctbx.network.model_file import ModelFileError, load_model
from phai_cctbx.network.operator import OperatorConfig
from phai_cctbx.phasing.neural import BUNDLED_MODEL
from phai_cctbx.programs.command import log_to
from phai_cctbx.programs.structure_crystals import read_structures
from phai_cctbx.training.diffraction import Experiment
from phai_cctbx.training.export import export
from phai_cctbx.training.loop import Schedule, Trainer
from phai_cctbx.training.pool import CrystalPool
from phai_cctbx.training.processes import join_processes, leave_processes
from phai_cctbx.training.train import PoolFolder
from phai_cctbx.version import __version__

#: The value of `init` that means the model of the package.
BUNDLED = "bundled"
#: Every so many structures one is kept aside to check the confidence with.
HELD_OUT_EVERY = 10
#: Fewer crystals aside than this cannot tell whether the confidence is true.
FEWEST_HELD_OUT = 20


class _Structures:
    """A fixed set of crystals, with the interface of `PoolFolder`."""

    def __init__(self, crystals, budget, largest_batch):
        self.held_out = crystals[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]
        kept = [c for i, c in enumerate(crystals) if (i + 1) % HELD_OUT_EVERY]
        self._pool = CrystalPool(kept, budget, largest_batch)

    def __call__(self):
        pool, self._pool = self._pool, None
        return pool


class Program(ProgramTemplate):
    """The command phai_cctbx.train."""

    program_name = "phai_cctbx.train"
    version = __version__
    description = """
Trains a phasing network on artificial crystals, or goes on from one with your
own structures.

  phai_cctbx.train pools=FOLDER model=my_model.pt minutes=600
  phai_cctbx.train init=bundled structures=FOLDER_OF_CIFS model=my_model.pt

The checkpoint (model name with .ckpt) makes a stopped training go on where it
was. The model is used by phai_cctbx.solve x.ins model=my_model.pt.

With several GPUs, each in a process of its own:

  torchrun --nproc-per-node 4 --no-python phai_cctbx.train pools=FOLDER model=my_model.pt
"""
    epilog = ""
    datatypes = ["phil"]
    master_phil_str = """
init = None
  .type = str
  .help = Start from a model file, or from the one of the package (bundled), else from nothing
structures = None
  .type = path
  .help = Folder of .cif files to train on
pools = None
  .type = path
  .help = Folder of .npz pools of artificial crystals (phai_cctbx.training.crystals)
model = None
  .type = path
  .help = Model file to write
name = None
  .type = str
  .help = What the model calls itself, its file name by default
minutes = 60
  .type = float(value_min=0)
  .help = Time of the whole training
learning_rate = 0.0015
  .type = float(value_min=0)
  .help = Largest step of the optimiser
channels = 48
  .type = int(value_min=1)
  .help = Maps of a layer, of a network that starts from nothing
layers = 6
  .type = int(value_min=1)
  .help = Layers, of a network that starts from nothing
d_min = 1.9 2.3
  .type = floats(size=2)
  .help = Range of the resolution cut in A
missing = 0.2
  .type = float(value_min=0, value_max=0.9)
  .help = Largest share of reflections left out
noise = 0.08
  .type = float(value_min=0)
  .help = Largest relative error of an amplitude
overloads = 0.15
  .type = float(value_min=0, value_max=0.9)
  .help = Largest share of reflections, the strongest, that a saturated detector loses
polarity = 0
  .type = float(value_min=0)
  .help = Electrons that a bond moves, per unit of the difference in electronegativity: 0 makes \
          spherical neutral atoms, 0.11 is near to Hirshfeld atoms
batch_budget = 1e6
  .type = float
  .help = Size of a batch in A^6
largest_batch = 32
  .type = int(value_min=1)
  .help = Crystals of a batch at most
seed = 0
  .type = int(value_min=0)
  .help = Seed of all random numbers
threads = None
  .type = int(value_min=1)
  .help = Threads of the CPU, as torch chooses by default
device = None
  .type = str
  .help = cpu or cuda, what there is by default
"""

    @staticmethod
    def file_parameters(arguments):
        """There are no file arguments."""
        if arguments:
            raise Sorry(f"{arguments[0]}: parameters only, such as structures=FOLDER.")
        return {}

    def validate(self):
        """Refuse what cannot work before any long work."""
        p = self.params
        if p.model is None:
            raise Sorry("model=FILE is needed: the model file to write.")
        if Path(p.model).exists() and not p.output.overwrite:
            raise Sorry(f"{p.model} exists: give another model=FILE, or overwrite=True.")
        if (p.structures is None) == (p.pools is None):
            raise Sorry("Give either structures=FOLDER (of .cif) or pools=FOLDER (of .npz).")
        for name in ("structures", "pools"):
            folder = getattr(p, name)
            if folder is not None and not Path(folder).is_dir():
                raise Sorry(f"{name}={folder}: no such folder.")
        if p.d_min[0] > p.d_min[1] or p.d_min[0] <= 0:
            raise Sorry(f"d_min={p.d_min[0]} {p.d_min[1]}: two resolutions, the finer one first.")

    def run(self):
        """Train, then write the model."""
        with log_to(self.logger):
            self._train()

    def _train(self):
        p = self.params
        torch.set_num_threads(p.threads or torch.get_num_threads())
        kind = p.device or ("cuda" if torch.cuda.is_available() else "cpu")
        processes = join_processes(kind)
        config, weights, kappa_scale, fills_in = self._initial()
        if p.structures is not None:
            pools = _Structures(
                read_structures(Path(p.structures)), p.batch_budget, p.largest_batch
            )
            source = f"structures of {Path(p.structures).name}"
        else:
            pools = PoolFolder(Path(p.pools), p.batch_budget, p.largest_batch)
            source = f"artificial crystals of {Path(p.pools).name}"
        checkpoint = Path(p.model).with_suffix(".ckpt")
        try:
            trainer = Trainer(
                config,
                pools,
                Experiment(
                    tuple(p.d_min), p.missing, p.noise, polarity=p.polarity, overloads=p.overloads,
                    fills_in=fills_in,
                ),  # fmt: skip
                Schedule(p.minutes, p.learning_rate),
                p.seed,
                processes.device(kind),
                checkpoint,
                processes=processes,
            )
        except ValueError as error:
            raise Sorry(f"{error}.") from error
        if weights is not None and trainer.step == 0:
            trainer.start_from(weights)
            source += f", from {p.init}"
        trainer.run()
        leave_processes()
        if not processes.first:
            return
        enough = len(pools.held_out) >= FEWEST_HELD_OUT
        if not enough:
            self.logger.write(
                f"Only {len(pools.held_out)} crystals kept aside: the confidence is scaled as"
                f" before ({kappa_scale[0]:.2f}, {kappa_scale[1]:.2f}).\n"
            )
        export(
            checkpoint,
            pools.held_out if enough else None,
            p.name or Path(p.model).stem,
            source,
            Path(p.model),
            kappa_scale=kappa_scale,
        )
        self.logger.write(f"Model written: {p.model}\n")

    def _initial(self):
        """Configuration, weights (None: random) and kappa scales to start from, and whether absent
        reflections take part: as in the model that is gone on with."""
        p = self.params
        if p.init is None:
            config = OperatorConfig(
                channels=p.channels, scalars=p.channels, hidden=2 * p.channels, layers=p.layers
            )
            return config, None, (1.0, 1.0), True
        path = BUNDLED_MODEL if p.init == BUNDLED else Path(p.init)
        try:
            model, metadata = load_model(path)
        except ModelFileError as error:
            raise Sorry(f"init={p.init}: {error}") from error
        if "config" not in metadata.training:
            raise Sorry(f"init={p.init}: does not say how it was built, so it cannot be trained.")
        config = OperatorConfig(**metadata.training["config"])
        return config, model.state_dict(), metadata.kappa_scale, metadata.fills_in

    def get_results(self):
        """Nothing beside the files."""
        return None
