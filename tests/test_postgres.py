from __future__ import annotations

import psycopg
import pytest
import sqlalchemy
from sqlalchemy import text

from tests.postgres import Postgres


def test_a_database_answers_with_its_password_only(postgres: Postgres):
    url = postgres.create_database("answers")
    with sqlalchemy.create_engine(url).connect() as connection:
        assert connection.execute(text("SELECT current_database()")).scalar() == "answers"
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(host="127.0.0.1", port=postgres.port, user="hpo", password="guessed", dbname="answers")


@pytest.mark.parametrize("immediately", [False, True], ids=["stopped", "killed"])
def test_what_was_committed_outlives_the_server(postgres: Postgres, immediately: bool):
    url = postgres.create_database(f"outlives_{immediately}")
    engine = sqlalchemy.create_engine(url, pool_pre_ping=True)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE kept AS SELECT 7 AS value"))
    postgres.stop(immediately)
    with pytest.raises(sqlalchemy.exc.OperationalError), engine.connect():
        pass
    postgres.start()
    with engine.connect() as connection:
        assert connection.execute(text("SELECT value FROM kept")).scalar() == 7
    engine.dispose()
