"""Alembic's entry: runs the revisions on the connection that :mod:`rtx.store.migrate` opened and locked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from alembic import context
from alembic.runtime.migration import MigrationContext, MigrationInfo


def announce_step(  # Alembic fixes the names of the parameters
    ctx: MigrationContext,  # noqa: ARG001
    step: MigrationInfo,
    heads: Collection[Any],  # noqa: ARG001
    run_args: Mapping[str, Any],  # noqa: ARG001
) -> None:
    """Tell the caller of the run which revision was just applied."""
    progress: Callable[[str], None] | None = context.config.attributes.get("progress")
    if progress is not None:
        revision = step.up_revision_id
        progress(f"applied {revision}" if step.is_upgrade else f"reverted {revision}")


def run() -> None:
    """Run what the command asked for, each revision in a transaction of its own."""
    context.configure(
        connection=context.config.attributes["connection"],
        transaction_per_migration=True,
        on_version_apply=announce_step,
    )
    with context.begin_transaction():
        context.run_migrations()


run()
