"""The command line, ``imagejobs``. A command's module is imported when it is called, so that asking for a status does
not load the server."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from io import TextIOWrapper
from typing import Any, NamedTuple

import click

INTERRUPTED = 130


class Entry(NamedTuple):
    target: str
    summary: str


COMMANDS = {
    "submit": Entry("app.cli.client:submit_command", "Submit a job and, with --watch, follow it to its end."),
    "upload": Entry("app.cli.uploads:upload_command", "Upload the photos of a folder, as jobs."),
    "manifest": Entry("app.cli.manifests:manifest_command", "Make a job of a list of ids and URLs."),
    "status": Entry("app.cli.client:status_command", "Show how far a job is and which stores failed."),
    "images": Entry("app.cli.client:images_command", "List the images of a job with their results or errors."),
    "results": Entry("app.cli.results:results_command", "Save the results of a whole job as CSV or JSON."),
    "errors": Entry("app.cli.client:errors_command", "Show why images of a job failed, by error code."),
    "retry": Entry("app.cli.client:retry_command", "Try images of a job again that failed."),
    "cancel": Entry("app.cli.client:cancel_command", "Stop a job; results that are there stay."),
    "jobs": Entry("app.cli.client:jobs_command", "List jobs, newest first."),
    "visits": Entry("app.cli.client:visits_command", "List visits by store, area and period."),
    "webhooks": Entry("app.cli.webhooks:webhooks_command", "Be told when jobs end: list, add, test, remove."),
    "keys": Entry("app.cli.keys:keys_command", "Make, list and revoke API keys, on a host of the service."),
    "run": Entry("app.cli.run:run_command", "Run the whole service until Ctrl-C."),
    "recover": Entry("app.cli.server:recover_command", "Find dropped work and ring for it, until stopped."),
    "deliver": Entry("app.cli.server:deliver_command", "Send webhooks, until stopped."),
    "purge": Entry("app.cli.server:purge_command", "Delete jobs that ended long ago, with their files."),
    "backup": Entry("app.cli.backups:backup_command", "Copy the database and all files into a folder."),
    "restore": Entry("app.cli.backups:restore_command", "Fill an empty database and storage from a backup."),
    "doctor": Entry("app.cli.checks:doctor_command", "Say how the service is, in sentences, also when parts are down."),
    "orphans": Entry("app.cli.storage:orphans_command", "List, or remove, stored files that no image names."),
    "adopt-storage": Entry("app.cli.storage:adopt_command", "Go on with a storage whose files were moved."),
    "backfill": Entry("app.cli.backfill:backfill_command", "Run a processor on images that are stored."),
    "audit": Entry("app.cli.checks:audit_command", "Check that counters, chunks and images agree."),
    "recount": Entry("app.cli.recount:recount_command", "Put right the sums of visits that the pages show."),
}


class Commands(click.Group):
    """The commands of the table above; Ctrl-C and a closed pipe end any of them without a word."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].target.partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # a store's name must not crash a C-locale terminal
        try:
            try:
                return super().invoke(ctx)
            finally:
                sys.stdout.flush()
        except BrokenPipeError:
            # What is still buffered has no reader; without this the interpreter would complain about it at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(INTERRUPTED)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Thousands of store photos in, one result an image out.

    The client's commands talk to the service at --url or IMAGEJOBS_URL; run, recover and deliver are the service
    itself, keys, doctor, audit and orphans look after it on one of its hosts.
    """
