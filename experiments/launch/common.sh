# What the launch scripts share; sourced by them. $script is the script's name.

# require VARIABLE...: ends the script where one is not set.
require() {
  local variable
  for variable in "$@"; do
    [[ -n ${!variable:-} ]] ||
      { echo "$script: $variable is not set; see the top of $0" >&2; exit 2; }
  done
}

# require_train COMMAND...: the other commands run on one host.
require_train() {
  [[ " $* " == *' experiments.train '* ]] ||
    { echo "$script: only experiments.train runs on several hosts" >&2; exit 2; }
}

# run COMMAND...: runs it, or prints it where DRY_RUN=1.
run() {
  if [[ ${DRY_RUN:-0} == 1 ]]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}
