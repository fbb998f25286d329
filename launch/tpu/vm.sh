#!/usr/bin/env bash
# A slice of TPU VMs, by gcloud (docs/tpu.md): vm.sh SETTINGS.env VERB
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$HERE/common.sh"
VERBS='create|install|run|logs [WORKER]|stop|babysit|delete'

FOLDER=unmask-job         # in the home of every host
: "${POLL_SECONDS:=30}"   # between two looks at a request
: "${RESTART_SECONDS:=20}"
UNREACHED=255             # what ssh says, and gcloud after it

tpus() { gcloud compute tpus "$@" "--project=$PROJECT" "--zone=$ZONE" --quiet; }

# everywhere COMMAND...: on all hosts at once, each word as it is.
everywhere() { tpus tpu-vm ssh "$NAME" --worker=all "--command=$(printf '%q ' "$@")"; }

accelerator_type() {
  case $KIND in
    v4 | v5p) echo "$KIND-$((CHIPS * 2))" ;; # goes by cores
    v5e) echo "v5litepod-$CHIPS" ;;
    v6e) echo "v6e-$CHIPS" ;;
  esac
}

runtime_version() {
  case $KIND in
    v4) echo tpu-ubuntu2204-base ;;
    v5e) echo v2-alpha-tpuv5-lite ;;
    v5p) echo v2-alpha-tpuv5 ;;
    v6e) echo v2-alpha-tpuv6e ;;
  esac
}

# state: of the request for the slice; NONE where there is none, UNKNOWN where nobody answers.
state() {
  local found complaint
  complaint=$(mktemp)
  if found=$(tpus queued-resources describe "$NAME" '--format=value(state.state)' 2>"$complaint"); then
    echo "${found:-UNKNOWN}"
  elif grep -q NOT_FOUND "$complaint"; then
    echo NONE
  else
    cat "$complaint" >&2
    echo UNKNOWN
  fi
  rm -f "$complaint"
}

create() {
  local more=()
  case $CAPACITY in
    spot) more+=(--spot) ;;
    reserved) more+=(--reserved) ;;
  esac
  [ -z "${VALID_UNTIL-}" ] || more+=("--valid-until-duration=$VALID_UNTIL")
  [ -z "${SERVICE_ACCOUNT-}" ] || more+=("--service-account=$SERVICE_ACCOUNT")
  tpus queued-resources create "$NAME" "--node-id=$NAME" "--accelerator-type=$(accelerator_type)" \
    "--runtime-version=${RUNTIME_VERSION:-$(runtime_version)}" ${more[@]+"${more[@]}"}
  await
}

# await: until the slice is there; 1 if it will not come.
await() {
  local now before=''
  while :; do
    now=$(state)
    [ "$now" = "$before" ] || say "$NAME is $now."
    before=$now
    case $now in
      ACTIVE) return 0 ;;
      CREATING | ACCEPTED | PROVISIONING | WAITING_FOR_RESOURCES | UNKNOWN) sleep "$POLL_SECONDS" ;;
      *)
        tpus queued-resources describe "$NAME" '--format=yaml(state)' >&2 || true
        return 1
        ;;
    esac
  done
}

delete() {
  [ "$(state)" = NONE ] || tpus queued-resources delete "$NAME" --force
  while [ "$(state)" != NONE ]; do sleep "$POLL_SECONDS"; done
  say "$NAME is deleted."
}

install() {
  local folder
  folder=$(mktemp -d)
  gather "$folder"
  everywhere mkdir -p "$FOLDER"
  tpus tpu-vm scp "$HERE/worker.sh" "$folder"/* "$NAME:$FOLDER/" --worker=all
  everywhere bash "$FOLDER/worker.sh" install "${PYTHON:-3.11}" "$(basename "$folder"/unmask-*.whl)" "${DATA-}"
  rm -rf "$folder"
}

# run [ATTEMPT]: COMMAND on every host, and what it says, until all have ended. The same ATTEMPT once more starts
# nothing and looks on; so does gcloud's own trying again.
run() {
  local log status
  log=$(mktemp)
  everywhere bash "$FOLDER/worker.sh" run "${1:-$(date +%s)}" "${COMMAND[@]}" 2>&1 | tee "$log" || true
  status=$(verdict "$log")
  rm -f "$log"
  return "$status"
}

# verdict LOG: one status for those of all hosts. What a person must mend comes first, then what must be installed.
verdict() {
  local statuses one
  statuses=$(sed -n 's/.*unmask-job: ended with status \([0-9]*\).*/\1/p' "$1")
  for one in 2 1 130 127; do
    if grep -qx "$one" <<<"$statuses"; then echo "$one" && return; fi
  done
  [ -n "$statuses" ] || statuses=$UNREACHED
  sort -n <<<"$statuses" | grep -vxm 1 0 || echo 0
}

# babysit: creates, installs and runs until the run is done or needs a person; whatever is taken away is made anew.
# Each verb is a process of its own, in which bash stops at the first error.
babysit() {
  local verb=(bash "$HERE/vm.sh" "$SETTINGS") attempt='' installed='' restarts=0 status
  while :; do
    status=0
    case $(state) in
      ACTIVE)
        if [ -z "$installed" ]; then
          if "${verb[@]}" install; then installed=yes; else status=$UNREACHED; fi
        fi
        if [ -n "$installed" ]; then
          : "${attempt:=$(date +%s)-$restarts}"
          "${verb[@]}" run "$attempt" || status=$?
          case $status in 0 | 1 | 2 | 130) return "$status" ;; esac
          [ "$status" = "$UNREACHED" ] || attempt='' # it may still run: then only look on
          [ "$status" != 127 ] || installed=''       # a machine that was replaced has nothing on it
        fi
        ;;
      NONE) "${verb[@]}" create || [ "$(state)" != NONE ] || return 1 ;;
      CREATING | ACCEPTED | PROVISIONING | WAITING_FOR_RESOURCES | UNKNOWN) await || true ;;
      *)
        say "$NAME was taken away, or could not be had: it is made anew."
        "${verb[@]}" delete || true
        installed='' attempt='' status=$UNREACHED
        ;;
    esac
    if [ "$status" != 0 ]; then
      restarts=$((restarts + 1))
      [ "$restarts" -le "$MOST_RESTARTS" ] || return "$status"
      say "status $status; restart $restarts of at most $MOST_RESTARTS."
      sleep "$RESTART_SECONDS"
    fi
  done
}

[ $# -ge 2 ] || stop_here "usage: vm.sh SETTINGS.env $VERBS"
SETTINGS=$1
load "$SETTINGS"
case $2 in
  create | install | run | babysit | delete) "${@:2}" ;;
  logs) tpus tpu-vm ssh "$NAME" "--worker=${3:-0}" "--command=bash $FOLDER/worker.sh logs" ;;
  stop) everywhere bash "$FOLDER/worker.sh" stop ;;
  *) stop_here "usage: vm.sh SETTINGS.env $VERBS" ;;
esac
