# shellcheck shell=bash
# Read by vm.sh, gke.sh and sky.sh: settings, checked before anything is asked for. Messages go to stderr.

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

say() { printf 'unmask: %s\n' "$*" >&2; }

stop_here() {
  say "$@"
  exit 2
}

# load FILE: the settings, as variables; beside them KIND and CHIPS, the parts of ACCELERATOR.
load() {
  local name
  [ -f "$1" ] || stop_here "there is no settings file '$1': copy $TOP/launch/tpu/settings.env and change it."
  COMMAND=()
  # shellcheck source=SCRIPTDIR/settings.env
  source "$1" || stop_here "'$1' cannot be read by bash."
  for name in PROJECT ZONE NAME ACCELERATOR CAPACITY; do
    [ -n "${!name-}" ] || stop_here "'$1' lacks $name."
  done
  [[ $NAME =~ ^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$ ]] ||
    stop_here "NAME is '$NAME': at most 40 of a-z, 0-9 and '-', a letter first, no '-' last."
  [[ $CAPACITY =~ ^(spot|reserved|on-demand)$ ]] || stop_here "CAPACITY is '$CAPACITY': spot, reserved or on-demand."
  [[ ${COMMAND[0]-} == unmask && ${COMMAND[1]-} == train ]] || stop_here "COMMAND is (unmask train FLAGS...)."
  [[ ${MOST_RESTARTS:=100} =~ ^[0-9]+$ ]] || stop_here "MOST_RESTARTS is '$MOST_RESTARTS': a whole number."
  [[ $ACCELERATOR =~ ^(v4|v5e|v5p|v6e):([0-9]+)x([0-9]+)(x([0-9]+))?$ ]] ||
    stop_here "ACCELERATOR is '$ACCELERATOR': one slice of v4, v5e, v5p or v6e, such as v5e:4x4 or v5p:2x2x4."
  export KIND=${BASH_REMATCH[1]}
  export CHIPS=$((BASH_REMATCH[2] * BASH_REMATCH[3] * ${BASH_REMATCH[5]:-1}))
}

# gather FOLDER: this checkout as a wheel, or $WHEEL, and the pins it was tested with.
gather() {
  local name
  if [ -n "${WHEEL-}" ]; then
    [ -f "$WHEEL" ] || stop_here "WHEEL is '$WHEEL', and there is no such file."
    cp "$WHEEL" "$1/"
  else
    rm -rf "${TOP:?}/build" # an older wheel's: what has gone from the code would be in this one too
    python3 -m pip wheel --quiet --no-deps --wheel-dir "$1" "$TOP"
  fi
  for name in constraints requirements requirements-gcs requirements-tpu-compile; do cp "$TOP/$name.txt" "$1/"; done
}

# write_job FLAGS...: the scheduler's file of COMMAND in the present folder's jobs/, by `unmask job`.
write_job() {
  local here=unmask
  [ ! -x "$TOP/.venv/bin/unmask" ] || here=$TOP/.venv/bin/unmask
  [ "$CAPACITY" = spot ] || set -- "$@" --no-spot
  "$here" job "--name=$NAME" "--accelerator=$ACCELERATOR" "$@" "${COMMAND[@]:2}"
}
