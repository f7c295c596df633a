# Images of the project, by --target:
#   service      serves on CPUs: no torch, no compiler
#   service-gpu  serves on a GPU; the host needs NVIDIA's driver and container runtime, the image no CUDA base
#   batch        classifies files without a server: `service` and pyarrow, which is nearly as large
#   training     trains and exports
# The locks are written by `make locks`. A build context named `wheels` is looked through before PyPI:
#   docker build --build-context wheels=DIR ...
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
# For the labels; IMAGE_REVISION is a commit.
ARG IMAGE_VERSION=0.1.0
ARG IMAGE_REVISION=unknown

FROM scratch AS wheels

FROM ${PYTHON_IMAGE} AS base
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/opt/momentum-serve PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN groupadd --gid 10001 momentum \
    && useradd --uid 10001 --gid 10001 --no-log-init --home-dir /home/momentum --create-home momentum

# What is installed changes seldom, and comes before the code.
FROM base AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_PYTHON=/opt/venv/bin/python
RUN python -m venv --without-pip /opt/venv

FROM builder AS code
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,source=deploy/locks/build.txt,target=/tmp/lock.txt \
    pip install --require-hashes --no-deps --requirement /tmp/lock.txt
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY models models
COPY training training
COPY exports exports
COPY service service
RUN pip install --no-cache-dir --no-deps --no-build-isolation --target /opt/momentum-serve .

FROM builder AS service-packages
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,source=deploy/locks/service.txt,target=/tmp/lock.txt \
    --mount=type=bind,source=deploy/trim.sh,target=/tmp/trim.sh \
    pip install --require-hashes --no-deps --requirement /tmp/lock.txt \
    && sh /tmp/trim.sh

FROM service-packages AS batch-packages
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,source=deploy/locks/batch.txt,target=/tmp/lock.txt \
    pip install --require-hashes --no-deps --requirement /tmp/lock.txt \
    && rm -r /opt/venv/lib/python3*/site-packages/pyarrow/include /opt/venv/lib/python3*/site-packages/pyarrow/tests

FROM builder AS service-gpu-packages
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,source=deploy/locks/service-gpu.txt,target=/tmp/lock.txt \
    --mount=type=bind,source=deploy/trim.sh,target=/tmp/trim.sh \
    pip install --require-hashes --no-deps --requirement /tmp/lock.txt \
    && sh /tmp/trim.sh

FROM base AS runtime
LABEL org.opencontainers.image.title="Momentum Serve" \
      org.opencontainers.image.description="Recurrent networks accelerated by momentum, served with onnxruntime" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV MOMENTUM_HOST=0.0.0.0 MOMENTUM_PORT=8000 MOMENTUM_STORE=/var/lib/momentum-serve/store MOMENTUM_LOG_FORMAT=json
COPY deploy/ready.py /usr/local/bin/ready.py
COPY --chmod=755 deploy/fill-store.sh /usr/local/bin/fill-store
# A volume that is mounted here for the first time starts with these.
COPY --chown=10001:10001 exports/store /var/lib/momentum-serve/store
WORKDIR /home/momentum
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --start-interval=1s --retries=3 \
    CMD ["python", "/usr/local/bin/ready.py"]
CMD ["python", "-m", "service"]

FROM runtime AS service
COPY --from=service-packages /opt/venv /opt/venv
COPY --from=code /opt/momentum-serve /opt/momentum-serve
ARG IMAGE_VERSION IMAGE_REVISION
LABEL org.opencontainers.image.version="${IMAGE_VERSION}" org.opencontainers.image.revision="${IMAGE_REVISION}"
USER 10001:10001

FROM runtime AS batch
LABEL org.opencontainers.image.title="Momentum Serve, batch"
COPY --from=batch-packages /opt/venv /opt/venv
COPY --from=code /opt/momentum-serve /opt/momentum-serve
ARG IMAGE_VERSION IMAGE_REVISION
LABEL org.opencontainers.image.version="${IMAGE_VERSION}" org.opencontainers.image.revision="${IMAGE_REVISION}"
WORKDIR /files
USER 10001:10001
HEALTHCHECK NONE
ENTRYPOINT ["python", "-m", "service", "batch"]
CMD ["--help"]

FROM runtime AS service-gpu
LABEL org.opencontainers.image.title="Momentum Serve, GPU"
ENV MOMENTUM_DEVICE=cuda CUDA_CACHE_PATH=/tmp/cuda NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=service-gpu-packages /opt/venv /opt/venv
COPY --from=code /opt/momentum-serve /opt/momentum-serve
ARG IMAGE_VERSION IMAGE_REVISION
LABEL org.opencontainers.image.version="${IMAGE_VERSION}" org.opencontainers.image.revision="${IMAGE_REVISION}"
USER 10001:10001

FROM builder AS training-packages
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,source=deploy/locks/training.txt,target=/tmp/lock.txt \
    pip install --require-hashes --no-deps --requirement /tmp/lock.txt
# For CPUs; empty for PyPI's torch, which brings CUDA.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# The lock has what torch requires: for CPUs nothing but torch itself is installed here.
# hadolint ignore=DL3013
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,from=wheels,target=/wheels \
    pip install --find-links /wheels ${TORCH_INDEX:+--extra-index-url ${TORCH_INDEX}} torch==2.13.0 \
    && pip check

FROM base AS training
LABEL org.opencontainers.image.title="Momentum Serve, training" \
      org.opencontainers.image.description="Trains recurrent networks accelerated by momentum, and exports them to ONNX" \
      org.opencontainers.image.licenses="Apache-2.0"
# The compiler builds the kernels for the processor that the image runs on, once.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
COPY --from=training-packages /opt/venv /opt/venv
COPY --from=code /opt/momentum-serve /opt/momentum-serve
WORKDIR /work
COPY training/recipes recipes
COPY --chmod=755 deploy/train.sh /usr/local/bin/train
COPY --chown=10001:10001 exports/store /var/lib/momentum-serve/store
ENV MOMENTUM_STORE=/var/lib/momentum-serve/store
RUN mkdir --parents runs /home/momentum/.cache && chown 10001:10001 runs /home/momentum/.cache
ARG IMAGE_VERSION IMAGE_REVISION
LABEL org.opencontainers.image.version="${IMAGE_VERSION}" org.opencontainers.image.revision="${IMAGE_REVISION}"
USER 10001:10001
CMD ["train"]
