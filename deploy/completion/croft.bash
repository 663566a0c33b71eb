# Completion for croft in bash. Subcommands and options come from the program's own help, so they are always those of this version;
# names of apps come from the farm, when one answers.
_croft() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} word
  local -a path=()
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case $word in -*) ;; *) path+=("$word") ;; esac
  done
  case $previous in
    --role) mapfile -t COMPREPLY < <(compgen -W "master node balancer dns log" -- "$current"); return ;;
    --log-level) mapfile -t COMPREPLY < <(compgen -W "trace debug info warn error" -- "$current"); return ;;
    --data|--config|--docker|--log-file) mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
  esac
  local help
  help=$("${COMP_WORDS[0]}" "${path[@]:0:2}" --help 2>/dev/null) || help=$("${COMP_WORDS[0]}" "${path[@]:0:1}" --help 2>/dev/null)
  if [[ $current == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$(grep -oE '(^|[ ,])--[a-z][a-z-]*' <<<"$help" | tr -d ' ,')" -- "$current")
    return
  fi
  local commands
  commands=$(sed -n '/^Subcommands:/,$p' <<<"$help" | sed -n 's/^  \([a-z][a-z-]*\) .*/\1/p')
  case "${path[*]}" in
    "app show"|"app scale"|"app restart"|"app remove"|"app versions"|"app rollback"|"rule set"|"task list"|logs|explain)
      commands=$("${COMP_WORDS[0]}" -q app list --json 2>/dev/null | grep -oE '"id":"/[^"]*"' | cut -d'"' -f4 | sort -u) ;;
    "app rollback "*) commands=$("${COMP_WORDS[0]}" -q app versions "${path[2]}" --json 2>/dev/null | grep -oE '[0-9]{4}-[0-9T:.-]*Z') ;;
    "secret set"|"secret remove") commands=$("${COMP_WORDS[0]}" -q secret list --json 2>/dev/null | grep -oE '"name":"/[^"]*"' | cut -d'"' -f4 | sort -u) ;;
    "rule remove") commands=$("${COMP_WORDS[0]}" -q rule list --json 2>/dev/null | grep -oE '"Id":"/[^"]*"' | cut -d'"' -f4 | sort -u) ;;
    "deployment rollback") commands=$("${COMP_WORDS[0]}" -q deployment list --json 2>/dev/null | grep -oE '"id":"[0-9a-f-]*"' | cut -d'"' -f4 | sort -u) ;;
    "app deploy"|"config check") mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$current")
}
complete -o filenames -F _croft croft
