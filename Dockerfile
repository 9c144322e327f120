# syntax=docker/dockerfile:1.7
# Two images from one set of versions (constraints.txt), so that an MLflow server and its clients are of one version:
#   docker build --target worker .   hpo; with --build-arg TORCH_INDEX_URL=... for CPUs alone, some GB less
#   docker build --target mlflow .   MLflow's server with the PostgreSQL driver
# Layers go from what changes seldom to what changes often: a change of code reinstalls nothing but the code.

ARG PYTHON=3.11.14-slim-bookworm

FROM python:${PYTHON} AS base
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    GIT_PYTHON_REFRESH=quiet \
    HOME=/tmp \
    MLFLOW_DISABLE_TELEMETRY=true
RUN groupadd --gid 10001 hpo && useradd --uid 10001 --gid hpo --no-create-home --shell /usr/sbin/nologin hpo
COPY constraints.txt /build/


FROM base AS mlflow
RUN --mount=type=cache,target=/root/.cache/pip \
    HOME=/root pip install --constraint /build/constraints.txt mlflow 'psycopg[binary]'
# A new volume takes over the owner of the folder that it is mounted on.
RUN install --directory --owner=hpo --group=hpo /artifacts
WORKDIR /artifacts
USER hpo
EXPOSE 5000
ENTRYPOINT ["mlflow"]
CMD ["server", "--host", "0.0.0.0"]


FROM base AS worker
# Where pip finds PyTorch for CPUs alone, as PyTorch's own instructions name it; left out, it is the build for GPUs.
ARG TORCH_INDEX_URL=
RUN --mount=type=cache,target=/root/.cache/pip \
    HOME=/root pip install --constraint /build/constraints.txt \
      ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} torch torchvision
# What pyproject.toml asks for, without the code that it describes.
COPY pyproject.toml /build/
RUN --mount=type=cache,target=/root/.cache/pip \
    python -c "import tomllib; project = tomllib.load(open('/build/pyproject.toml', 'rb'))['project']; \
print(*project['dependencies'], *project['optional-dependencies']['postgres'], sep='\n')" > /build/requirements.txt \
    && HOME=/root pip install --constraint /build/constraints.txt --requirement /build/requirements.txt
COPY README.md LICENSE /build/
COPY search_spaces /build/search_spaces
COPY hpo /build/hpo
RUN --mount=type=cache,target=/root/.cache/pip HOME=/root pip install --no-deps /build
# mlruns holds the splits and the locks of living workers; /cache everything that can be made again.
RUN install --directory --owner=hpo --group=hpo /cache /state /state/mlruns
ENV HPO_CACHE_DIR=/cache \
    HF_HOME=/cache/huggingface \
    MPLCONFIGDIR=/tmp/matplotlib
WORKDIR /state
USER hpo
# A worker serves nothing that could be asked for its health: the study knows whether it lives.
HEALTHCHECK NONE
ENTRYPOINT ["hpo"]
CMD ["--help"]
