#!/usr/bin/env bash
# What a container of the Dockerfile runs (docs/container.md): training, where its arguments begin with an option, or
# else the command that they are.
#
#   docker run ... IMAGE --config configs/DATASET/EXPERIMENT.yaml [key.sub=value ...]
#   docker run ... IMAGE ltrsys balance RUN
set -euo pipefail

train=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/train.py
case ${1:---help} in
    -h | --help)
        echo "Options train, one process a GPU; anything else is run as a command: ltrsys --help"
        exec python "$train" --help
        ;;
    -*) exec deepspeed "$train" "$@" ;;
    *) exec "$@" ;;
esac
