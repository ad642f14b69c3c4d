# The server on a CPU, with the embedded encoder:
#
#   docker build -t ebr-engine .
#   docker run -p 127.0.0.1:50051:50051 -v ebr-data:/data ebr-engine
#
# The first start on a volume compiles the kernels, about a minute. Settings: EBR_... variables or flags after the name.
# TORCH_INDEX: where torch comes from; PyPI's is the CUDA build, gigabytes that a CPU has no use for.
ARG PYTHON_IMAGE=python:3.12-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN apt-get update && apt-get install -y --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN make venv VENV=/usr/local/ebr EXTRAS=cpu,minilm PYTHON=python3 TORCH_INDEX=${TORCH_INDEX}

FROM ${PYTHON_IMAGE}
# libgomp: the threads of our kernels.
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* \
    && useradd --system --create-home --uid 10001 ebr \
    && install -d -o ebr -g ebr /data
COPY --from=build /usr/local/ebr /usr/local/ebr
ENV PATH=/usr/local/ebr/bin:$PATH EBR_DATA_DIR=/data EBR_LISTEN=0.0.0.0:50051 PYTHONUNBUFFERED=1
USER ebr
VOLUME /data
EXPOSE 50051
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=180s --retries=3 CMD ["ebr", "health", "--quiet"]
ENTRYPOINT ["ebr", "serve"]
