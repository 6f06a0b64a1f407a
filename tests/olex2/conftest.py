"""A stand-in for Olex2: its modules, and the way from Solve to the reaped .res.

After the sources of olex2-gui (RunPrg.py, ExternalPrgParameters.py, Method.py, PluginTools.py,
phil_interface.py, olexex.py, initpy_funcs.py): the same names, the same order of calls, the same
conditions under which a run fails.
"""

import importlib
import os
import shutil
import sys
import types
from pathlib import Path

import pytest

# cctbx
import libtbx.phil.interface

PARAMS_PHIL = """
snum {
  solution {
    program = 'Unknown' ShelXS ShelXT olex2.solve
      .type = choice
    method = 'Direct Methods' 'Intrinsic Phasing' 'Charge Flipping'
      .type = choice
  }
}
"""
#: A script that Olex2 ships, earlier on its path than any plugin.
SHADOW = "raise FileNotFoundError('PhAI model file not found')\n"


class PhilHandler(libtbx.phil.interface.index):
    """phil_interface.phil_handler: the parts that a plugin meets."""

    def adopt_phil(self, phil_string):
        for phil_object in self.parse(phil_string).objects:
            self.master_phil.adopt(phil_object)
        self.working_phil = self.master_phil.fetch(sources=[self.working_phil])
        self.rebuild_index()
        self.params = self.working_phil.extract()

    def update_single_param(self, name, value):
        new = self.parse(f"{name}={value}")
        for master, working in zip(
            self.master_phil.get_without_substitution(name),
            self.working_phil.get_without_substitution(name),
        ):
            for definition in new.get_without_substitution(name):
                proxy = master.validate(value)
                if proxy.error_message is not None:
                    raise libtbx.phil.Sorry(proxy.error_message)
                working.words = master.fetch_value(definition).words
        self.params = self.working_phil.extract()


class Olex2:
    """One Olex2 with a loaded structure.

    Parameters
    ----------
    base : Path
        Its folder, as on disk.
    work : Path
        Folder of the structure.
    name : str
        Of the structure, without extension.
    """

    def __init__(self, base, work, name):
        self.base, self.work, self.name = base, work, name
        self.phil_handler = PhilHandler(libtbx.phil.parse(PARAMS_PHIL))
        self.variables, self.commands, self.alerts = {}, [], []
        self.reaped = None
        self.on_the_path = {}
        self.gui = True

    # -- modules -------------------------------------------------------------------------------
    def modules(self):
        olex = types.ModuleType("olex")
        olex.m = self.commands.append
        olx = types.ModuleType("olx")
        olx.phil_handler = self.phil_handler
        olx.HasGUI = lambda: "true" if self.gui else "false"
        olx.InstalledPlugins = set()
        olx.file = types.SimpleNamespace(Which=self.which)
        olx.Reset = lambda: self.commands.append("reset")
        olx.DelIns = lambda name: None
        olx.Compaq = lambda **options: None
        olx.ShowStr = lambda value: None
        ov = self.functions()
        functions = types.ModuleType("olexFunctions")
        functions.OV = ov
        functions.OlexFunctions = lambda: ov
        phil_interface = types.ModuleType("phil_interface")
        phil_interface.parse = lambda input_string: libtbx.phil.parse(input_string)
        phil_interface.phil_handler = PhilHandler
        vfs = types.ModuleType("OlexVFS")
        vfs.write_to_olex = lambda name, text: None
        return {
            "olex": olex,
            "olx": olx,
            "OlexVFS": vfs,
            "olexFunctions": functions,
            "phil_interface": phil_interface,
            "Method": self.method_module(ov, olx),
            "ExternalPrgParameters": self.program_module(),
            "PluginTools": self.plugin_module(olx, ov),
            "olexex": self.olexex_module(),
        }

    def functions(self):
        ov = types.SimpleNamespace()
        ov.GetParam = self.get_param
        ov.SetParam = self.phil_handler.update_single_param
        ov.SetVar = self.variables.__setitem__
        ov.FindValue = self.variables.get
        ov.HasGUI = lambda: self.gui
        ov.DataDir = lambda: str(self.base / "data")
        ov.BaseDir = lambda: str(self.base)
        return ov

    def get_param(self, name, default=None):
        value = self.phil_handler.params
        for part in name.split("."):
            value = getattr(value, part, None)
        return default if value is None else value

    def which(self, name):
        """TEFile::Which: an absolute path as it is, else what the PATH has."""
        return name if os.path.isabs(name) else self.on_the_path.get(name, "")

    def method_module(self, ov, olx):
        module = types.ModuleType("Method")

        class Method:
            command_line_options = None
            failure = False
            running = False

            def __init__(self, phil_object):
                self.phil_index = PhilHandler(phil_object)
                self.name = self.phil_index.params.name
                self.observer = None

            def run(self, run_prg):
                if Method.running:
                    return False
                Method.running = True
                try:
                    self.do_run(run_prg)
                    return True
                finally:
                    Method.running = False

            def instructions(self):
                scope = self.phil_index.get_scope_by_name("instructions")
                return [] if scope is None else list(scope.active_objects())

            def getArgs(self):
                return [instruction.name for instruction in self.instructions()]

            def unregisterCallback(self):
                assert self.observer is None

        class Method_solution(Method):
            def __init__(self, phil_object):
                super().__init__(phil_object)
                self.atom_sites_solution = self.phil_index.params.atom_sites_solution

            def pre_solution(self, run_prg):
                arguments = "\n".join(self.getArgs()).upper()
                return f"{arguments} -c='C10 H10 F2 N4' -s='P21/n' "

            def post_solution(self, run_prg):
                olx.DelIns("TREF")
                if run_prg.HasGUI:
                    olx.Compaq(a=True)
                    olx.ShowStr("true")

        module.Method, module.Method_solution = Method, Method_solution
        return module

    def program_module(self):
        module = types.ModuleType("ExternalPrgParameters")

        class Program:
            def __init__(
                self, name, program_type, author, reference, brief_reference,
                execs=None, versions=None, phil_entry_name=None,
            ):  # fmt: skip
                self.name, self.program_type, self.author = name, program_type, author
                self.reference, self.brief_reference = reference, brief_reference
                self.execs, self.phil_entry_name = execs, phil_entry_name
                self.methods, self.counter = {}, 0

            def addMethod(self, method):
                method.order = self.counter
                self.methods.setdefault(method.name, method)
                self.counter += 1

        class ExternalProgramDictionary:
            def __init__(self):
                self.programs, self.counter = {}, 0

            def addProgram(self, program):
                program.order = self.counter
                self.programs.setdefault(program.name, program)
                self.counter += 1

        dictionaries = ExternalProgramDictionary(), ExternalProgramDictionary()
        module.Program = Program
        module.get_program_dictionaries = lambda: dictionaries
        self.solution_programs = dictionaries[0].programs
        return module

    def plugin_module(self, olx, ov):
        module = types.ModuleType("PluginTools")
        handler = self.phil_handler

        class PluginTools:
            def __init__(self):
                if olx.HasGUI() == "true":
                    olx.InstalledPlugins.add(self)

            def print_version_date(self):
                pass

            def deal_with_phil(self, operation="read"):
                text = Path(self.p_path, f"{self.p_scope}.phil").read_text(encoding="utf-8")
                handler.adopt_phil(phil_string=text)
                # a file of this name would be adopted by the handler of the GUI as well
                assert not Path(self.p_path, f"{self.p_name.lower()}.phil").exists()
                self.params = getattr(handler.params, self.p_scope)

            def setup_gui(self):
                assert Path(self.p_path, f"{self.p_htm}.htm").is_file()
                assert isinstance(self.p_img[0][0], str)
                assert ov.GetParam(f"{self.p_scope}.gui.location") == "tools"

        module.PluginTools = PluginTools
        return module

    def olexex_module(self):
        module = types.ModuleType("olexex")
        module.available_solution_programs = ["olex2.solve"]

        def which_program(program):
            found = ""
            for name in program.execs:
                found = self.which(name)
                if found:
                    break
            return found

        module.which_program = which_program
        self.olexex = module
        return module

    # -- what the user does ---------------------------------------------------------------------
    def start(self, monkeypatch):
        """Load the plugins that plugins.xld names, as initpy_funcs.set_plugins_paths does."""
        for name, module in self.modules().items():
            monkeypatch.setitem(sys.modules, name, module)
        listed = (self.base / "plugins.xld").read_text().replace("<Plugin", "").split()
        plugins = [entry.strip("<>") for entry in listed if entry.strip("<>")]
        utilities = self.base / "util" / "pyUtil"
        path = [str(utilities), str(utilities / "PluginLib")]
        path += [str(utilities / "PluginLib" / f"plugin-{name}") for name in plugins]
        monkeypatch.setattr(sys, "path", path + sys.path)
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        for name in plugins:
            monkeypatch.delitem(sys.modules, name, raising=False)
            importlib.import_module(name)
            monkeypatch.delitem(sys.modules, name)
        return self

    def solve(self, program="PhAI", method="Network"):
        """RunSolutionPrg with the current parameters; False where Olex2 keeps the old structure."""
        self.phil_handler.update_single_param("snum.solution.program", program)
        self.phil_handler.update_single_param("snum.solution.method", method)
        run = types.SimpleNamespace(HasGUI=self.gui, post_prg_output_html_message="")
        solution = self.phil_handler.params.snum.solution
        run.program = self.solution_programs[solution.program]
        run.method = run.program.methods[solution.method]
        run.shelx_alias = self.name.replace(" ", "").lower()
        self.run = run
        if not self.olexex.which_program(run.program):
            self.alerts.append(f"{run.program.name} is not found on this system")
            return False
        arguments = run.method.pre_solution(run)
        assert arguments.split("-c=")[0].strip() == "", "instructions that SHELXL does not know"
        self.set_up_files(run)
        if not run.method.run(run) or run.method.failure:
            return False
        self.reap(run)
        run.method.post_solution(run)
        run.method.unregisterCallback()
        return True

    def set_up_files(self, run):
        run.filePath = str(self.work)
        run.tempPath = str(self.work / "olex2" / "temp")
        os.makedirs(run.tempPath, exist_ok=True)
        for name in os.listdir(run.tempPath):
            os.remove(os.path.join(run.tempPath, name))
        for extension in ("ins", "hkl"):
            shutil.copyfile(
                self.work / f"{self.name}.{extension}",
                os.path.join(run.tempPath, f"{run.shelx_alias}.{extension}"),
            )

    def reap(self, run):
        assert "xt" not in run.program.name.lower(), "Olex2 would look for _a.res"
        for extension in ("res", "lst", "cif", "fcf", "mat", "pdb", "lxt"):
            source = Path(run.tempPath, f"{run.shelx_alias}.{extension}")
            if source.is_file():
                shutil.copyfile(source, self.work / f"{self.name}.{extension}")
        self.reaped = (self.work / f"{self.name}.res").read_text()


@pytest.fixture
def olex2_folder(tmp_path):
    """The folder of an Olex2 with its own script PhAI.py, and another plugin."""
    base = tmp_path / "Olex2 1.5"
    library = base / "util" / "pyUtil" / "PluginLib"
    (library / "plugin-Other").mkdir(parents=True)
    (library / "plugin-Other" / "Other.py").write_text("")
    (library.parent / "PhAI.py").write_text(SHADOW)
    (base / "plugins.xld").write_text("<Plugin\n  <Other>\n>\n")
    return base


@pytest.fixture
def make_olex2(olex2_folder):
    """Function: folder and name of a structure -> a running Olex2."""
    return lambda work, name: Olex2(olex2_folder, work, name)
