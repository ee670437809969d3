# NVIDIA's PyTorch image brings torch, torchvision, apex, DALI and Triton, built for one another. tests/image/ records
# what is known of its versions, and tests/test_dockerfile.py holds setup.py against that.
ARG PYTORCH_IMAGE=nvcr.io/nvidia/pytorch:26.07-py3
FROM ${PYTORCH_IMAGE}

SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# Dependencies first, in a layer that changes of the code leave alone, but for the version, which `ltrsys/__init__.py`
# states. The image's own constraints (PIP_CONSTRAINT) keep pip from replacing what NVIDIA built.
WORKDIR /opt/ltrsys
COPY setup.py pyproject.toml README.md LICENSE ./
COPY ltrsys/__init__.py ltrsys/__init__.py
RUN pip install --no-cache-dir --editable '.[remote]' \
    && rm -r ltrsys

COPY ltrsys ltrsys
COPY kernels kernels
COPY launchers launchers
COPY configs configs
# Any user may read it, whatever the checkout's modes; and what cannot even start fails here.
RUN chmod -R a+rX . && ltrsys --help > /dev/null && python launchers/train.py --help > /dev/null

# Any user, known to the image or not, has a home, where Triton, torch, matplotlib and wandb keep their caches. No
# variable names these one by one: Apptainer brings the user's own home, and mounts the image's folders read-only.
RUN useradd --no-create-home --home-dir /cache --uid 10001 --user-group ltrsys \
    && mkdir -m 1777 /cache \
    && mkdir /work && ln -s /opt/ltrsys/configs /work/configs && chown ltrsys: /work
USER 10001:10001
ENV HOME=/cache PYTHONUNBUFFERED=1
# Shards are mounted at /work/data, and runs are written to /work/runs.
WORKDIR /work
# NVIDIA's own entrypoint first: it tells of a missing GPU, an old driver and a small /dev/shm.
ENTRYPOINT ["/opt/nvidia/nvidia_entrypoint.sh", "/opt/ltrsys/launchers/container.sh"]
CMD ["--help"]
