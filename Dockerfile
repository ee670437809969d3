# NVIDIA's PyTorch image brings torch, torchvision, apex, DALI and Triton, built for one another.
ARG PYTORCH_IMAGE=nvcr.io/nvidia/pytorch:25.12-py3
FROM ${PYTORCH_IMAGE}

SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# Dependencies first, in a layer that changes of the code leave alone. The image's own constraints (PIP_CONSTRAINT)
# keep pip from replacing what NVIDIA built; choose an image that has DALI 2.1 or later.
WORKDIR /opt/ltrsys
COPY setup.py pyproject.toml README.md ./
RUN mkdir -p ltrsys kernels \
    && touch ltrsys/__init__.py kernels/__init__.py \
    && pip install --no-cache-dir --editable . \
    && rm -r ltrsys kernels

COPY ltrsys ltrsys
COPY kernels kernels
COPY launchers launchers
COPY configs configs

RUN useradd --create-home --uid 10001 --user-group ltrsys && mkdir /work && chown ltrsys: /work
USER 10001:10001
# Shards are mounted at /work/data, and runs are written to /work/runs.
WORKDIR /work
ENV PYTHONUNBUFFERED=1
ENTRYPOINT ["deepspeed", "/opt/ltrsys/launchers/train.py"]
CMD ["--help"]
