"""Alembic environment: ampstore.schema hands over an open connection; on the command line a URL does."""

from alembic import context
from sqlalchemy import Connection, create_engine

from ampstore.tables import VERSION_TABLE, metadata


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table=VERSION_TABLE,
        transactional_ddl=True,
        include_name=lambda name, kind, _: kind != "table" or name in metadata.tables,
    )
    with context.begin_transaction():
        context.run_migrations()


connection = context.config.attributes.get("connection")
if connection is not None:
    run(connection)
else:  # alembic -x url=sqlite:///some.db revision --autogenerate -m "..."
    url = context.get_x_argument(as_dictionary=True).get("url", "sqlite://")
    with create_engine(url).connect() as connection:
        run(connection)
