# SPDX-License-Identifier: Apache-2.0
"""Entry point of all commands: ``nonzero compile model.pt2``, as ``python -m host.compile model.pt2``."""

import importlib.util
import runpy
import sys
from pathlib import Path

from nonzero.command_line import SHOWN

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "compile": ("host.compile", "a trained network into a memory image"),
    "run": ("host.run", "an image in simulation or on a board, beside its models"),
    "view": ("host.view", "a recorded run as a page"),
    "train": ("host.train", "a network of the zoo"),
    "sensitivity": ("host.sensitivity", "how the error grows as each layer is pruned alone"),
    "study": ("host.study", "other ways to compress, on the same network and data"),
    "demo": ("host.demo", "train, compile and simulate handwritten digits"),
    "build": ("rtl.build", "bitstreams and Verilog"),
    "bench": ("host.bench", "benchmarks of the toolchain"),
    "sim-bench": ("sim.bench", "benchmarks of the simulated engine"),
}
"""Module and subject of each command."""

WINGS = ("nonzero", "rtl", "host", "sim")


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {subject}" for name, (_, subject) in COMMANDS.items()]
    return "\n".join(["usage: nonzero COMMAND ...", "", *lines, "", "nonzero COMMAND --help has examples.",
                      "python -m host.compile and the others do the same.", ""])


def _shadowed() -> list[str]:
    """A message for each of our packages that Python finds elsewhere, in the current directory for instance."""
    here = Path(__file__).resolve().parents[1]
    problems = []
    for wing in WINGS:
        found = importlib.util.find_spec(wing)
        origin = Path(found.origin) if found is not None and found.origin else None
        if origin is None or origin.resolve().parents[1] != here:
            problems.append(f"'{origin or wing}' hides the package '{wing}' of Nonzero; rename it, or run this in "
                            "another directory")
    return problems


def main() -> None:
    """Runs the command that the first argument names, in this process."""
    name, *arguments = sys.argv[1:] or [""]
    if name in ("", "-h", "--help"):
        (sys.stdout if name else sys.stderr).write(_usage())
        sys.exit(0 if name else 2)
    if name == "--version":
        from nonzero.version import tool_version

        sys.stdout.write(f"nonzero {tool_version()}\n")
        return
    if name not in COMMANDS:
        sys.stderr.write(f"error: command must be one of {', '.join(COMMANDS)}, not '{name}'\n")
        sys.exit(2)
    if problems := _shadowed():
        sys.stderr.write("".join(f"error: {problem}\n" for problem in problems))
        sys.exit(2)
    SHOWN.update({module: f"nonzero {command}" for command, (module, _) in COMMANDS.items()})
    module, _ = COMMANDS[name]
    # --data finds the user's modules in the current directory, as with `python -m`. It comes last, so that it hides
    # none of our modules.
    sys.path.append(str(Path.cwd()))
    # As `python -m` does.
    sys.argv = [name, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
