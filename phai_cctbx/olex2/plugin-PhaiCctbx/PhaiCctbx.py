"""PhAI as a structure solution program of Olex2, run in a process of its own.

Olex2 imports this file at its start, by the entry ``<PhaiCctbx>`` of plugins.xld. It runs in the
Python of Olex2 (3.8 or later), which need not know phai_cctbx: all work is done by the command
phai_cctbx.solve. The name is not PhAI, because Olex2 has a script of that name earlier on its
path.
"""

import ast
import os
import subprocess
import sys

import olex
import olexex
import olx
import phil_interface
from ExternalPrgParameters import Program, get_program_dictionaries
from Method import Method_solution
from olexFunctions import OlexFunctions
from PluginTools import PluginTools

from libtbx.phil import tokenizer

OV = OlexFunctions()

PLUGIN_FOLDER = os.path.dirname(os.path.abspath(__file__))
#: Written by phai_cctbx.install_olex2_plugin: the command, one argument per line.
COMMAND_FILE = os.path.join(PLUGIN_FOLDER, "command.txt")
#: Names on the PATH, where the command that was installed is gone.
ON_THE_PATH = ("phai_cctbx.solve.exe", "phai_cctbx.solve")

PROGRAM_NAME = "PhAI"
METHOD_NAME = "Network"
#: Exit statuses of phai_cctbx.solve that leave a .res: solved, and not solved.
SOLVED, NOT_SOLVED = 0, 3
#: Variables by which Olex2 leads its own Python to its libraries, and another one astray.
FOREIGN_VARIABLES = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LIBTBX_BUILD")
EXTRAS_BEGIN, EXTRAS_END = "REM <olex2.extras>", "REM </olex2.extras>"

METHOD_PHIL = phil_interface.parse(
    f"""
name = {METHOD_NAME}
  .type = str
atom_sites_solution = other
  .type = str
instructions {{
}}
"""
)


def solver_command():
    """The command as a list of arguments, empty where there is none."""
    chosen = OV.GetParam("phai.executable")
    if chosen:
        return [chosen] if os.path.isfile(chosen) else []
    if os.path.isfile(COMMAND_FILE):
        with open(COMMAND_FILE, encoding="utf-8") as file:
            command = file.read().splitlines()
        if command and os.path.isfile(command[0]):
            return command
    for name in ON_THE_PATH:
        found = olx.file.Which(name)
        if found:
            return [found]
    return []


def solver_environment():
    """The environment without what belongs to the Python of Olex2."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PYTHON") and name not in FOREIGN_VARIABLES
    }
    environment["PYTHONUNBUFFERED"] = "1"
    environment["PYTHONIOENCODING"] = "utf-8"
    return environment


def with_extras(ins_text, res_text):
    """The .res with the block of Olex2's own data that the .ins has."""
    block = []
    for line in ins_text.splitlines():
        if line.strip() == EXTRAS_BEGIN:
            block = [line]
        elif block and block[-1].strip() != EXTRAS_END:
            block.append(line)
    if not block or block[-1].strip() != EXTRAS_END:
        return res_text
    kept, inside = [], False
    for line in res_text.splitlines():
        inside = inside or line.strip() == EXTRAS_BEGIN
        if not inside:
            kept.append(line)
        inside = inside and line.strip() != EXTRAS_END
    place = next((i for i, line in enumerate(kept) if line.upper().startswith("HKLF")), len(kept))
    return "\n".join(kept[:place] + block + kept[place:]) + "\n"


class MethodNetwork(Method_solution):
    """The method Network of the program PhAI."""

    def do_run(self, RunPrgObject):
        """Solve in the folder that Olex2 has filled; `failure` says whether a .res is there."""
        self.failure = True
        self.message = ""
        command = solver_command()
        if not command:
            self.tell("phai_cctbx.solve is not there. Install phai_cctbx, then the plugin again.")
            return
        folder, alias = RunPrgObject.tempPath, RunPrgObject.shelx_alias
        status = self.stream(command + self.arguments(folder, alias), folder)
        if status not in (SOLVED, NOT_SOLVED):
            self.tell(f"PhAI stopped with exit status {status}; its reason stands above.")
            return
        self.take_over(os.path.join(folder, alias))
        if status == NOT_SOLVED:
            self.tell("PhAI did NOT solve the structure: what is shown is the best candidate.")

    def arguments(self, folder, alias):
        """Arguments of the command."""
        arguments = [
            os.path.join(folder, alias + ".ins"),
            "output.style=shelxt",
            "output.directory=" + quoted(folder),
        ]
        for name in ("strategy", "d_min", "model"):
            value = OV.GetParam("phai." + name)
            if value is not None:
                scope = "data" if name == "d_min" else "phasing"
                arguments.append(f"{scope}.{name}={quoted(value)}")
        return arguments

    def stream(self, command, folder):
        """Run, show each line as it comes, and return the exit status."""
        options = {}
        if sys.platform.startswith("win"):
            options["creationflags"] = subprocess.CREATE_NO_WINDOW
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=solver_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                **options,
            )
        except OSError as error:
            self.tell(f"{command[0]} cannot be run: {error}")
            return None
        with process:
            for line in process.stdout:
                show(line.rstrip())
                if OV.HasGUI():
                    olex.m("refresh")
        return process.returncode

    def take_over(self, base):
        """Make BASE.res of BASE_a.res, with the data that Olex2 keeps in the .ins."""
        with open(base + ".ins", encoding="utf-8", errors="surrogateescape") as file:
            ins_text = file.read()
        if not os.path.isfile(base + "_a.res"):
            self.tell("PhAI wrote no .res.")
            return
        with open(base + "_a.res", encoding="utf-8", errors="surrogateescape") as file:
            res_text = file.read()
        if not res_text.strip():
            self.tell("PhAI wrote an empty .res.")
            return
        with open(base + ".res", "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(with_extras(ins_text, res_text))
        os.remove(base + "_a.res")
        solution = [line for line in res_text.splitlines() if line.startswith("REM Solution")]
        self.message = solution[0][4:] if solution else ""
        self.failure = False

    def tell(self, message):
        """Say it in the console, and in the panel after a run."""
        self.message = message
        show(message)

    def post_solution(self, RunPrgObject):
        """Show how good the solution is."""
        Method_solution.post_solution(self, RunPrgObject)
        RunPrgObject.post_prg_output_html_message = self.message


def show(line):
    """Write to the console of Olex2, which shows what is printed."""
    print(line)  # noqa: T201


def quoted(value):
    """A parameter value as phil reads it back."""
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def add_choice(parameter, value):
    """Add a value to those that a parameter of Olex2 may have."""
    for phil in (olx.phil_handler.master_phil, olx.phil_handler.working_phil):
        for definition in phil.get_without_substitution(parameter):
            if value not in [word.value.lstrip("*") for word in definition.words]:
                definition.words.append(tokenizer.word(value=value))
    olx.phil_handler.rebuild_index()


def register():
    """Make PhAI one of the solution programs of Olex2."""
    command = solver_command()
    program = Program(
        name=PROGRAM_NAME,
        program_type="solution",
        author="the phai_cctbx developers, after A. S. Larsen, T. Rekis & A. O. Madsen",
        reference="Larsen, A. S., Rekis, T. & Madsen, A. O. (2024). Science, 385, 522-528.",
        brief_reference="Larsen et al., 2024",
        execs=command[:1] or list(ON_THE_PATH),
    )
    program.addMethod(MethodNetwork(METHOD_PHIL))
    solution_programs, _ = get_program_dictionaries()
    solution_programs.addProgram(program)
    add_choice("snum.solution.program", PROGRAM_NAME)
    add_choice("snum.solution.method", METHOD_NAME)
    olexex.available_solution_programs = None


def read_definitions():
    """What def.txt says of the plugin."""
    with open(os.path.join(PLUGIN_FOLDER, "def.txt"), encoding="utf-8") as file:
        pairs = [line.split("=", 1) for line in file if "=" in line]
    return {name.strip(): value.strip() for name, value in pairs}


class PhaiCctbx(PluginTools):
    """The plugin as Olex2 knows it."""

    def __init__(self):
        super().__init__()
        definitions = read_definitions()
        self.p_name = definitions["p_name"]
        self.p_path = PLUGIN_FOLDER
        self.p_scope = definitions["p_scope"]
        self.p_htm = definitions["p_htm"]
        self.p_img = ast.literal_eval(definitions["p_img"])
        OV.SetVar("PhaiCctbx_plugin_path", PLUGIN_FOLDER)
        self.deal_with_phil(operation="read")
        self.print_version_date()
        register()
        self.setup_gui()


PhaiCctbx_instance = PhaiCctbx()
