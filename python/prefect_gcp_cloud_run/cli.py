"""The program `prefect-gcp-cloud-run`: what people do by hand beside the worker.

prefect-gcp-cloud-run sweep --pool my-pool --dry-run
prefect-gcp-cloud-run doctor --pool my-pool
prefect-gcp-cloud-run template --upgrade my-pool
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from prefect_gcp_cloud_run import _core

if TYPE_CHECKING:
    from collections.abc import Sequence

# What a shell shows for a program that Ctrl-C has ended.
_EXIT_INTERRUPTED = 130
# And for one that a closed pipe has ended.
_EXIT_BROKEN_PIPE = 141

_SWEEP = """\
Looks once at the Cloud Run jobs of a work pool that workers may have left behind, as the workers of the pool do every
few minutes: jobs whose execution has ended are deleted, flow runs whose container is gone are reported as Crashed, and
flow runs that were never started are given back to the pool. Jobs without the pool's mark are not touched. It uses the
same Prefect profile, settings and credentials as a worker.
"""
_EXIT_CODES = """\
exit codes: 0 if all is well, 1 if something could not be listed or done, 2 if the command or its settings are wrong
"""

_DOCTOR = """\
Looks at everything that a worker which is started here would use: packages, settings, the Prefect API, credentials,
project, the Cloud Run API and permissions. Each problem is printed with what mends it. Nothing is changed, and no
secret is printed.
"""

_TEMPLATE = """\
Prints the base job template of work pools as JSON: the default one, or one that is extended by the job variables which
only this worker understands. With --upgrade, it shows what the template of a work pool lacks, and adds it after a
"yes". What the owner of the work pool has changed stays as it is. With --upgrade and --patch, only the patches change
the template, unless --extended is there too.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="prefect-gcp-cloud-run", description="Tools for the Cloud Run worker of Prefect."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {_core.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    sweep = commands.add_parser(
        "sweep",
        help="look once after the jobs that workers left behind, and show what was done",
        description=_SWEEP,
        epilog=_EXIT_CODES,
        allow_abbrev=False,
    )
    sweep.add_argument("-p", "--pool", required=True, metavar="NAME", help="name of the work pool")
    sweep.add_argument("--dry-run", action="store_true", help="show what would be done, and change nothing")
    for kind in ("project", "region"):
        sweep.add_argument(
            f"--{kind}",
            action="append",
            default=[],
            metavar=kind.upper(),
            help=f"a {kind} to look in, beside those that the work pool, its flow runs and the settings name; may be "
            "repeated",
        )
    doctor = commands.add_parser(
        "doctor",
        help="look at packages, settings, credentials and permissions, and say what mends each problem",
        description=_DOCTOR,
        epilog="exit codes: 0 if there is no problem, 1 if there are problems, 2 if the command is wrong",
        allow_abbrev=False,
    )
    doctor.add_argument(
        "-p", "--pool", "--work-pool", metavar="NAME", help="the work pool whose credentials and region to use"
    )
    doctor.add_argument("--credentials", metavar="BLOCK", help="a GCP credentials block, in the place of the pool's")
    doctor.add_argument("--project", metavar="PROJECT", help="the project, in the place of the credentials'")
    doctor.add_argument("--region", metavar="REGION", help="the region, in the place of the pool's")
    template = commands.add_parser(
        "template",
        help="print a base job template, or extend that of a work pool",
        description=_TEMPLATE,
        epilog="exit codes: 0 if it is done or nothing is to be done, 1 if not, 2 if the command or a patch is wrong",
        allow_abbrev=False,
    )
    template.add_argument("--extended", action="store_true", help="add the job variables that only this worker has")
    template.add_argument(
        "--patch",
        action="append",
        default=[],
        metavar="FILE",
        help="a JSON patch (RFC 6902) to apply; may be repeated",
    )
    template.add_argument("--upgrade", metavar="POOL", help="the work pool whose template to change")
    template.add_argument("-y", "--yes", action="store_true", help="change the work pool without a question")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: The arguments without the program's name. None: those of this process.

    Returns:
        The exit code.

    Raises:
        SystemExit: If the arguments are wrong, or ask for help.
    """
    options = _parser().parse_args(arguments)
    try:
        status = _run(options)
        # Here, and not when the interpreter ends, where the error could not be caught.
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # As with `doctor | head -1`: nobody reads on. What is still to be written goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _EXIT_BROKEN_PIPE


def _run(options: argparse.Namespace) -> int:
    # Prefect is imported only when there is something to do: that takes a second.
    try:
        if options.command == "doctor":
            from prefect_gcp_cloud_run._doctor import doctor

            return doctor(pool=options.pool, block=options.credentials, project=options.project, region=options.region)
        if options.command == "template":
            from prefect_gcp_cloud_run._template_command import template

            return template(extended=options.extended, patches=options.patch, upgrade=options.upgrade, yes=options.yes)
        from prefect_gcp_cloud_run._sweep import sweep

        return sweep(options.pool, projects=options.project, regions=options.region, dry_run=options.dry_run)
    except KeyboardInterrupt:
        left = " What was not done is left to the next sweep or worker." if options.command == "sweep" else ""
        sys.stderr.write(f"Interrupted.{left}\n")
        return _EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
