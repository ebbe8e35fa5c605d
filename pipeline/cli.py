"""The command `ommatidia`: lists the scripts, and runs one of them."""

from __future__ import annotations

import argparse
import ast
import os
import runpy
import sys
from pathlib import Path

from pipeline import __version__
from pipeline.console import DONE, EXIT_CODES, SHIPPED, WRONG_USAGE
from pipeline.errors import did_you_mean

SHORT = {"dataset": "dataset_orchestrator"}


def scripts() -> dict[str, Path]:
    """The scripts by the names of their commands, sorted: those beside the package, or in it once it is installed."""
    folder = SHIPPED if SHIPPED.is_dir() else SHIPPED.parents[1]
    short = {script: command for command, script in SHORT.items()}
    found = {short.get(path.stem, path.stem.replace("_", "-")): path for path in folder.glob("*.py")}
    return dict(sorted(found.items()))


def usage() -> str:
    """The help: a line per command, from its script's docstring (nothing is imported)."""
    known = scripts()
    width = max(map(len, known))
    lines = "\n".join(f"  {name:{width}}  {_summary(path)}" for name, path in known.items())
    return f"""usage: ommatidia COMMAND [ARGUMENTS]

commands (each also by its script's name, as in `ommatidia train.py main`; COMMAND --help tells the arguments):
{lines}

start with `ommatidia run --config configs/demo.yaml`, the whole job on an embedded demo set

{EXIT_CODES}"""


def main() -> int:
    """Run `ommatidia COMMAND ARGUMENTS`; a command may also have its script's name (`train.py`)."""
    if "_ARGCOMPLETE" in os.environ:
        _complete()
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help", "--version"):
        print(f"ommatidia {__version__}" if name == "--version" else usage())
        return DONE
    known = scripts()
    command = _command(name)
    if not command:
        hint = did_you_mean(name, known, f"commands: {', '.join(known)}")
        print(f"error: no command {name!r}; {hint}", file=sys.stderr)
        return WRONG_USAGE
    del sys.argv[0]
    runpy.run_path(str(known[command]), run_name="__main__")  # ends with the script's sys.exit
    return DONE


def _command(name: str) -> str | None:
    """The command of this name, or of the script of this name."""
    return next((key for key, path in scripts().items() if name.removesuffix(".py") in (key, path.stem)), None)


def _complete() -> None:
    """Complete the command for the shell; after a command, its script completes the arguments."""
    typed = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])]
    done = typed.split()[1:] if typed.endswith(" ") else typed.split()[1:-1]
    if done and _command(done[0]):
        os.environ["_ARGCOMPLETE"] = "2"  # the words that belong to the script begin with the second one
        sys.argv = ["ommatidia", done[0]]
        return
    import argcomplete

    parser = argparse.ArgumentParser()
    parser.add_argument("--version", action="store_true")
    parser.add_argument("command", choices=list(scripts()))
    argcomplete.autocomplete(parser)  # ends the process


def _summary(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n")[0]


if __name__ == "__main__":
    sys.exit(main())
