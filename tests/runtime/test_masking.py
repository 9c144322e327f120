"""No spelling of a URL lets its secret be seen."""

from __future__ import annotations

import pytest

from hpo.runtime.masking import masked, without_secrets

SPELLINGS = [
    "postgresql+psycopg://bob:S3CRET@host/db",
    "postgresql+psycopg://bob:S3CRET@host:5432/db?sslmode=require",
    "postgresql+psycopg://bob:S3CRET@S3CRET@host/db",
    "postgresql+psycopg://bob:a@S3CRET@host/db",
    "postgresql+psycopg://bob:a/S3CRET@host/db",
    "postgresql+psycopg://bob:a:S3CRET@host/db",
    "postgresql+psycopg://bob:a?S3CRET@host/db",
    "postgresql+psycopg://bob:a#S3CRET@host/db",
    "postgresql+psycopg://bob:a%40S3CRET@host/db",
    "postgresql+psycopg://bob:S3CRET@host:port/db",
    "postgresql+psycopg://bob:S3CRET@[::1]:5432/db",
    "postgresql+psycopg://S3CRET@host/db",
    "postgresql+psycopg://:S3CRET@host/db",
    "postgresql+psycopg://host/db?user=bob&password=S3CRET",
    "postgresql+psycopg:///db?host=/run&user=bob&password=S3CRET",
    "postgresql+psycopg://host/db?user=bob&password=a@S3CRET",
    "postgresql+psycopg://host/db?PASSWORD=S3CRET",
    "postgresql+psycopg://host/db?pass%77ord=S3CRET",
    "postgresql+psycopg://host/db?sslpassword=S3CRET&sslmode=require",
    "postgresql+psycopg://host/db?S3CRET",
    "postgresql+psycopg://host/db?options=-c%20x=S3CRET",
    "postgresql+psycopg://bob:b@host/db?password=S3CRET@x",
    "postgresql+psycopg://host/db;password=S3CRET",
    "postgresql:/bob:S3CRET@host/db",
    "bob:S3CRET@host/db",
    "host=localhost user=bob password=S3CRET",
    "http://S3CRET@127.0.0.1",
    "http://S3CRET:@127.0.0.1:5000",
    "https://bob:S3CRET@mlflow.example/path",
    "HTTPS://bob:S3CRET@mlflow.example",
    " http://bob:S3CRET@mlflow.example",
    "https://mlflow.example/path?token=S3CRET",
    "https://mlflow.example/#access_token=S3CRET",
    "https://mlflow.example/?a=1&api_key=S3CRET",
    "sqlite:////tmp/x.db?key=S3CRET",
]


@pytest.mark.parametrize("url", SPELLINGS)
def test_a3_a_secret_is_shown_in_no_spelling(url: str) -> None:
    assert "S3CRET" not in masked(url)
    assert "S3CRET" not in without_secrets(f"failed to open {url}: no such host", url)
    assert "S3CRET" not in without_secrets("cannot resolve 'S3CRET@host'", url) or url.startswith(("bob", "host"))


@pytest.mark.parametrize(
    ("url", "as_shown"),
    [
        ("postgresql+psycopg://bob:pw@host:5432/db?sslmode=require", "postgresql+psycopg://bob:***@host:5432/db?sslmode=require"),
        ("postgresql+psycopg://host/db?user=bob&password=pw", "postgresql+psycopg://host/db?user=***&password=***"),
        ("http://token@127.0.0.1:5000/mlflow", "http://***@127.0.0.1:5000/mlflow"),
        ("sqlite:////home/me@work/a#b/100%/optuna.db", "sqlite:////home/me@work/a#b/100%/optuna.db"),
        ("sqlite:///mlruns/optuna.db", "sqlite:///mlruns/optuna.db"),
        ("sqlite://", "sqlite://"),
        ("nosuch://place", "nosuch://place"),
        ("./mlruns", "./mlruns"),
        ("file:mlruns", "file:mlruns"),
    ],
)  # fmt: skip
def test_what_is_no_secret_is_shown(url: str, as_shown: str) -> None:
    assert masked(url) == as_shown


def test_short_secrets_leave_words_alone() -> None:
    assert without_secrets("a database at x", "postgresql://bob:at@x/db") == "a database *** x"
    assert without_secrets("what a data base", "postgresql://bob:at@x/db") == "what a data base"


def test_a_url_within_a_text_is_masked_without_being_given() -> None:
    assert without_secrets("API request to http://u:pw@h/api failed") == "API request to http://***@h/api failed"
