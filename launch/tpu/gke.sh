#!/usr/bin/env bash
# A slice as a node pool of GKE, and a JobSet on it (docs/tpu.md): gke.sh SETTINGS.env VERB
# JobSet itself starts the run again. The cluster, with JobSet installed, is there already.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$HERE/common.sh"
VERBS='create|install|run|logs|stop|delete'

pools() {
  gcloud container node-pools "$@" "--cluster=$CLUSTER" "--location=${CLUSTER_LOCATION:-$ZONE}" \
    "--project=$PROJECT" --quiet
}

# machine_type: of a host with so many chips (cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus).
machine_type() {
  case $KIND in
    v4) echo "ct4p-hightpu-$1t" ;;
    v5e) echo "ct5lp-hightpu-$1t" ;;
    v5p) echo "ct5p-hightpu-$1t" ;;
    v6e) echo "ct6e-standard-$1t" ;;
  esac
}

# create: the hosts of one slice. Small slices of v5e and v6e are one host.
create() {
  local chips=4 more=()
  if [[ $KIND =~ ^(v5e|v6e)$ && $CHIPS -le 8 ]]; then chips=$CHIPS; fi
  [ "$CHIPS" = "$chips" ] || more+=("--tpu-topology=${ACCELERATOR#*:}")
  case $CAPACITY in
    spot) more+=(--spot) ;;
    reserved)
      [ -n "${RESERVATION-}" ] || stop_here "CAPACITY is reserved: GKE wants the reservation's name, RESERVATION."
      more+=(--reservation-affinity=specific "--reservation=$RESERVATION")
      ;;
  esac
  pools create "$NAME" "--node-locations=$ZONE" "--machine-type=$(machine_type "$chips")" \
    "--num-nodes=$((CHIPS / chips))" ${more[@]+"${more[@]}"}
}

# install: the image, built here and pushed.
install() {
  local folder
  folder=$(mktemp -d)
  gather "$folder"
  docker build --file "$HERE/Dockerfile" --tag "$IMAGE" "$folder"
  docker push "$IMAGE"
  rm -rf "$folder"
}

run() {
  local folder account=()
  folder=$(mktemp -d)
  [ -z "${KUBERNETES_ACCOUNT-}" ] || account=("--service_account=$KUBERNETES_ACCOUNT")
  write_job --engine=jobset "--image=$IMAGE" "--write=$folder" ${account[@]+"${account[@]}"}
  kubectl delete jobset "$NAME" --ignore-not-found # one that has ended keeps its name
  kubectl apply --server-side -f "$folder/$NAME.yaml"
  rm -rf "$folder"
}

[ $# -ge 2 ] || stop_here "usage: gke.sh SETTINGS.env $VERBS"
load "$1"
for name in CLUSTER IMAGE; do
  [ -n "${!name-}" ] || stop_here "'$1' lacks $name."
done
case $2 in
  create | install | run) "$2" ;;
  logs)
    kubectl logs --follow --prefix --tail=-1 --max-log-requests=256 \
      "--selector=jobset.sigs.k8s.io/jobset-name=$NAME"
    ;;
  stop) kubectl delete jobset "$NAME" --ignore-not-found ;;
  delete)
    kubectl delete jobset "$NAME" --ignore-not-found
    pools delete "$NAME"
    ;;
  *) stop_here "usage: gke.sh SETTINGS.env $VERBS" ;;
esac
