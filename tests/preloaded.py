"""What every command of hpo imports sooner or later: imported once by the server from which tests fork commands."""

from __future__ import annotations

import torch._dynamo  # noqa: F401 - which the first step of an optimizer imports

import hpo.cli.app
import hpo.report.study_page
import hpo.search.search
import hpo.selection.sync
import hpo.tracking.figures  # noqa: F401
