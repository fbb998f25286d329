#!/usr/bin/env bash
# On a host of a slice, called by vm.sh: worker.sh install PYTHON WHEEL DATA | run ATTEMPT COMMAND... | logs | stop
# A run outlives the connection that started it. An attempt is started once, however often it is asked for.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

HOST=${TPU_WORKER_ID:-${HOSTNAME##*-}} # those of a slice are called ...-w-0, ...-w-1

say() { printf '[%s] unmask-job: %s\n' "$HOST" "$*"; }

# install PYTHON WHEEL DATA: the pinned packages and the wheel into .venv, and what lies in the bucket DATA into data/.
install() {
  command -v uv >/dev/null || python3 -m pip install --quiet --user uv
  PATH=$HOME/.local/bin:$PATH
  [ -x .venv/bin/python ] || uv venv --quiet --python "$1" .venv
  uv pip install --quiet --python .venv/bin/python -c constraints.txt \
    -r requirements.txt -r requirements-gcs.txt -r requirements-tpu-compile.txt
  uv pip install --quiet --python .venv/bin/python --no-deps --reinstall-package unmask "./$2"
  [ -z "$3" ] || gcloud storage rsync --recursive "$3" data
  say installed
}

# alive FOLDER: whether the command of an attempt still runs.
alive() { [ -f "$1/pid" ] && [ ! -f "$1/status" ] && kill -0 "$(cat "$1/pid")" 2>/dev/null; }

# stop: what runs here saves and ends; what has not done so in a minute is killed.
stop() {
  local attempt
  for attempt in attempts/*; do
    alive "$attempt" || continue
    kill -TERM "$(cat "$attempt/pid")"
    for _ in $(seq 120); do
      alive "$attempt" || break
      sleep 0.5
    done
    if alive "$attempt"; then kill -KILL "$(cat "$attempt/pid")"; fi
  done
}

# run ATTEMPT COMMAND...: starts it if this attempt has not begun, and looks on to its end.
run() {
  local attempt=attempts/$1
  mkdir -p attempts
  if mkdir "$attempt" 2>/dev/null; then
    stop # an earlier one that hangs would hold the chips
    setsid bash "$PWD/worker.sh" hold "$attempt" "${@:2}" </dev/null >"$attempt/log" 2>&1 &
  fi
  follow "$attempt"
}

# hold FOLDER COMMAND...: in a session of its own; keeps the command's process id and status.
hold() {
  local status=0
  PATH=$PWD/.venv/bin:$PATH PYTHONUNBUFFERED=1 "${@:2}" &
  echo $! >"$1/pid"
  wait $! || status=$?
  echo "$status" >"$1/status.new"
  mv "$1/status.new" "$1/status"
}

# follow FOLDER: the log, each line with its host, to its end; then the status.
follow() {
  local status
  await "$1/pid"
  tail -n +1 -f "--pid=$(cat "$1/pid")" "$1/log" | stdbuf -oL tr '\r' '\n' | sed -u "s/^/[$HOST] /"
  await "$1/status"
  status=$(cat "$1/status" 2>/dev/null || echo 137) # none: the host itself was started anew
  say "ended with status $status"
  exit "$status"
}

# await FILE: at most ten seconds.
await() {
  for _ in $(seq 100); do
    [ ! -s "$1" ] || return 0
    sleep 0.1
  done
}

# newest: the last attempt; their names begin with the second in which they began.
newest() {
  local all=(attempts/*)
  echo "${all[${#all[@]} - 1]}"
}

case ${1-} in
  install | run | hold | stop) "$@" ;;
  logs) follow "$(newest)" ;;
  *) say 'install PYTHON WHEEL DATA | run ATTEMPT COMMAND... | logs | stop' && exit 2 ;;
esac
