"""How Alembic reaches the database: through the engine of the Flask app, with the app's own metadata."""

from __future__ import annotations

from alembic import context
from flask import current_app

migrate = current_app.extensions["migrate"]
# An offline run prints the SQL and has no connection to compare with.
OPTIONS = {"target_metadata": migrate.db.metadata, **migrate.configure_args}


def skip_empty_revision(_context: object, _revision: object, directives: list) -> None:
    """Write no file where autogenerate finds nothing to change."""
    is_autogenerate = getattr(context.config.cmd_opts, "autogenerate", False)
    if is_autogenerate and directives[0].upgrade_ops.is_empty():
        directives[:] = []


def run() -> None:
    engine = migrate.db.engine
    is_sqlite = engine.dialect.name == "sqlite"
    # SQLite takes back a migration that fails half-way, and lets only one process migrate; MySQL commits at each DDL.
    with engine.connect().execution_options(is_write=True) as connection:
        context.configure(
            connection=connection,
            transactional_ddl=is_sqlite,
            process_revision_directives=skip_empty_revision,
            **OPTIONS,
        )
        with context.begin_transaction():
            context.run_migrations()


def print_sql() -> None:
    context.configure(url=str(migrate.db.engine.url), literal_binds=True, **OPTIONS)
    with context.begin_transaction():
        context.run_migrations()


print_sql() if context.is_offline_mode() else run()
