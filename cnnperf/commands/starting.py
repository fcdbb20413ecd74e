"""The commands `run` and `init`: the first measurement of one's own networks, and the files for those that follow."""

from __future__ import annotations

import argparse
from pathlib import Path

from cnnperf.commands.command import Command, file_path, print_lines, set_environment
from cnnperf.commands.networks import find_networks
from cnnperf.errors import OptionError
from cnnperf.exit_status import ExitStatus
from cnnperf.output import write_whole
from cnnperf.suite.flags import OPTIONS

TEMPLATES = Path(__file__).with_name("templates")
SUITE = Path(__file__).parents[1] / "suite" / "own"
CI = {"github": Path(".github/workflows/cnnperf.yml"), "gitlab": Path(".gitlab/cnnperf.yml")}
"""File that runs the gate, by the name of the CI service."""

STATUSES = {0: ExitStatus.OK, 1: ExitStatus.FAILED, 2: ExitStatus.INTERRUPTED}
"""Exit status by that of pytest; the others mean that nothing could be measured."""

RUN_EPILOG = """\
examples:
  cnnperf run mypackage.models:SmallNet
  cnnperf run mypackage.models:SmallNet mypackage.models:WideNet --cnnperf-axis phase=forward --cnnperf-axis batch=1,8
  cnnperf run timm:mobilenetv3_small_100 --cnnperf-device cpu
  cnnperf run 'se_*' --cnnperf-suite smoke

A target is `package.module:factory`, a class or function without arguments that returns an nn.Module or a
cnnperf.Subject, and can be imported from the current folder; `timm:NAME`; or a name or glob of the catalog.
The run is saved: `cnnperf show` prints it again, and `report`, `compare` and `history` read it.
`cnnperf init` writes a test file for the same.
"""
INIT_EPILOG = """\
examples:
  cnnperf init                                          # with the first networks that are found here
  cnnperf init --architecture mypackage.models:SmallNet --ci github

It writes benchmarks/conftest.py and benchmarks/test_networks.py, and with --ci a workflow with the gate. Files that
exist are left as they are. Afterwards:
  pytest benchmarks --benchmark-autosave
"""


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("targets", nargs="+", metavar="TARGET", help="package.module:factory, timm:NAME, or a name")
    text = "folder for the saved run (default: .benchmarks)"
    parser.add_argument("--runs", type=file_path, default=Path(".benchmarks"), metavar="FOLDER", help=text)
    parser.add_argument("--no-save", action="store_true", help="do not save the run")
    suite = parser.add_argument_group("options of the suite")
    for option in OPTIONS:
        if option.name != "architecture":
            action = "append" if option.repeatable else "store"
            text = option.help.replace("%", "%%")
            suite.add_argument(option.flag, dest=option.key, metavar=option.metavar, action=action, help=text)


def _run(args: argparse.Namespace) -> int:
    set_environment()
    import pytest

    given = [f"--cnnperf-architecture={target}" for target in args.targets]
    for option in OPTIONS:
        texts = getattr(args, option.key, None) or []
        given += [f"{option.flag}={text}" for text in ([texts] if isinstance(texts, str) else texts)]
    saving = [] if args.no_save else ["--benchmark-autosave"]
    settings = ["-c", str(SUITE / "pytest.ini"), "--rootdir", str(Path.cwd()), f"--benchmark-storage={args.runs}"]
    status = pytest.main([str(SUITE), *settings, *saving, *given])
    return STATUSES.get(int(status), ExitStatus.UNUSABLE)


def _add_init(parser: argparse.ArgumentParser) -> None:
    text = "network to measure, package.module:factory or timm:NAME; repeatable (default: networks that are found)"
    parser.add_argument("--architecture", action="append", default=[], metavar="TARGET", help=text)
    parser.add_argument("--ci", choices=sorted(CI), help="write a workflow with the gate too")
    text = "folder of the benchmarks (default: benchmarks)"
    parser.add_argument("--folder", type=file_path, default=Path("benchmarks"), metavar="FOLDER", help=text)


def _init(args: argparse.Namespace) -> int:
    targets = args.architecture or find_networks(Path.cwd())
    _check(targets)
    files = {args.folder / "conftest.py": _template("conftest.py")}
    if not targets:
        module = args.folder / "example_network.py"
        if args.folder.is_absolute() or not all(part.isidentifier() for part in args.folder.parts):
            raise OptionError(
                f"no network was found here; name one with --architecture, or take a --folder such as "
                f"benchmarks, from which an example can be imported, not {args.folder}"
            )
        files[module] = _template("example_network.py")
        targets = [f"{'.'.join((*args.folder.parts, module.stem))}:example"]
    lines = "".join(f'    "{target}",\n' for target in targets)
    files[args.folder / "test_networks.py"] = _template("test_networks.py").replace("@TARGETS@", lines)
    if args.ci:
        options = " ".join(f"--cnnperf-architecture {target}" for target in targets)
        install = "-e ." if Path("pyproject.toml").exists() or Path("setup.py").exists() else ""
        workflow = _template(f"{args.ci}.yml").replace("@ARCHITECTURES@", options)
        files[CI[args.ci]] = workflow.replace(" @INSTALL@", f" {install}" if install else "")
    for path, text in files.items():
        if path.exists():
            print_lines([f"left {path} as it is: it exists"])
        else:
            write_whole(path, text.replace("@FOLDER@", str(args.folder)))
            print_lines([f"wrote {path}"])
    print_lines(["", f"measure with: pytest {args.folder} --benchmark-autosave"])
    return ExitStatus.OK


def _check(targets: list[str]) -> None:
    for target in targets:
        module, colon, name = target.partition(":")
        if not (colon and name) or not (module == "timm" or all(part.isidentifier() for part in module.split("."))):
            raise OptionError(f"--architecture takes package.module:factory or timm:NAME, not {target!r}")


def _template(name: str) -> str:
    return (TEMPLATES / f"{name}.txt").read_text(encoding="utf-8")


STARTING = (
    Command("run", "measure networks without a test file", _run, _add_run, RUN_EPILOG),
    Command("init", "write benchmarks for the networks of this repository", _init, _add_init, INIT_EPILOG),
)
