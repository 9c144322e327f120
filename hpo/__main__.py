"""``python -m hpo`` is ``hpo``."""

from hpo.cli.app import main

main()
