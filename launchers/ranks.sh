# shellcheck shell=bash
# What train.sbatch and balance.sbatch share and source: where the ranks meet, which GPUs they have, what they run in.
#
#   srun "${srun_options[@]}" "${task[@]}" "${inside[@]}" "${programs}NAME" ...   runs an installed program on every rank
#   $code                                                                         the folder of the code that then runs

[[ -n ${SLURM_JOB_ID:-} ]] || fail "this is a batch script: submit it by sbatch."

gpus=${SLURM_GPUS_ON_NODE:-0}
tasks_per_node=${SLURM_NTASKS_PER_NODE:-$((gpus > 0 ? gpus : 1))}
cpus_per_task=$((SLURM_CPUS_ON_NODE / tasks_per_node))
cpus_per_task=$((cpus_per_task > 0 ? cpus_per_task : 1))

# The first node of the list, by the address that SLURM itself reaches it at. The port is this job's own, and outside
# the range from which systems give out others.
first_node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
MASTER_ADDR=$(scontrol show node "$first_node" | sed -n 's/.*NodeAddr=\([^ ]*\).*/\1/p')
[[ -n $MASTER_ADDR ]] || fail "$first_node: SLURM tells no address of this node."
export MASTER_ADDR
export MASTER_PORT=$((12000 + SLURM_JOB_ID % 20000))
export WORLD_SIZE=$((SLURM_NNODES * tasks_per_node)) LOCAL_WORLD_SIZE=$tasks_per_node
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$cpus_per_task}

logs=${LTRSYS_LOGS:-logs}/$SLURM_JOB_ID
srun_options=(
    --nodes="$SLURM_NNODES" --ntasks="$WORLD_SIZE" --ntasks-per-node="$tasks_per_node" --cpus-per-task="$cpus_per_task"
    --output="$logs/rank-%5t.log" --open-mode=append
)

# A step has the GPUs that its job asked for, and not those that came with a whole node: it has to ask for these itself.
# Where the job did ask, the step would have to ask in the same words, types and all.
job=$(scontrol show job --oneliner "$SLURM_JOB_ID")
if ((gpus > 0)) && [[ ! $job =~ \ TresPer[A-Za-z]+=[^\ ]*gpu ]]; then
    srun_options+=(--gres="gpu:$gpus")
fi

inside=()
programs=""
code=/opt/ltrsys
case ${LTRSYS_CONTAINER:-} in
    "")
        code=.
        programs=${VIRTUAL_ENV:-$PWD/.venv}/bin/
        [[ -x ${programs}python ]] ||
            fail "${programs}python: not found. Make the environment (make), or set LTRSYS_CONTAINER."
        ;;
    *.sif)
        inside=(apptainer exec --nv --bind "$PWD${LTRSYS_MOUNTS:+,$LTRSYS_MOUNTS}" --pwd "$PWD" "$LTRSYS_CONTAINER")
        ;;
    *)
        srun_options+=(
            --container-image="$LTRSYS_CONTAINER" --container-workdir="$PWD"
            --container-mounts="$PWD:$PWD${LTRSYS_MOUNTS:+,$LTRSYS_MOUNTS}"
        )
        ;;
esac
# A container may see the home directory: what pip put into ~/.local there would be imported instead of the image's own.
[[ -z ${LTRSYS_CONTAINER:-} ]] || export PYTHONNOUSERSITE=1

# LOCAL_RANK is the number of the rank's GPU. CUDA counts those that the process sees: an only one is number 0.
# shellcheck disable=SC2016 # SLURM sets these in each task
task=(bash -c '
    gpus_of_job=$1
    shift
    if ((gpus_of_job > 0 && ${SLURM_GPUS_ON_NODE:-0} < LOCAL_WORLD_SIZE)); then
        echo "ltrsys: rank $SLURM_PROCID on $SLURMD_NODENAME: SLURM gives $LOCAL_WORLD_SIZE ranks" \
            "${SLURM_GPUS_ON_NODE:-0} of the $gpus_of_job GPUs there; submit with as many --gpus-per-node as" \
            "--ntasks-per-node." >&2
        exit 2
    fi
    visible=${CUDA_VISIBLE_DEVICES:-}
    LOCAL_RANK=$SLURM_LOCALID
    [[ -z $visible || $visible == *,* ]] || LOCAL_RANK=0
    RANK=$SLURM_PROCID LOCAL_RANK=$LOCAL_RANK exec "$@"
' rank "$gpus")

mkdir -p "$logs"
echo "$(date --iso-8601=seconds) job $SLURM_JOB_ID, start $((${SLURM_RESTART_COUNT:-0} + 1)): $WORLD_SIZE ranks on" \
    "$SLURM_JOB_NODELIST, $gpus GPUs a node, rendezvous at $MASTER_ADDR:$MASTER_PORT, logs in $logs"
