#!/usr/bin/env bash
# A slice that SkyPilot finds, replaces when it is taken away, and gives back (docs/tpu.md): sky.sh SETTINGS.env VERB
# Its controller starts the run again. Installing is part of the task that it is given.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$HERE/common.sh"
VERBS='run|logs|stop'

run() {
  local folder
  [ "$CAPACITY" != reserved ] ||
    stop_here 'CAPACITY is reserved: SkyPilot has reservations in a configuration of its own; say spot or on-demand.'
  folder=$(mktemp -d)
  write_job --engine=skypilot "--infra=gcp/${ZONE%-*}/$ZONE" "--write=$folder"
  (cd "$TOP" && sky jobs launch --yes --detach-run "$folder/$NAME.yaml") # `workdir` is the checkout
  rm -rf "$folder"
}

[ $# -ge 2 ] || stop_here "usage: sky.sh SETTINGS.env $VERBS"
load "$1"
case $2 in
  run) run ;;
  logs) sky jobs logs --name "$NAME" ;;
  stop) sky jobs cancel --yes --name "$NAME" ;;
  *) stop_here "usage: sky.sh SETTINGS.env $VERBS" ;;
esac
