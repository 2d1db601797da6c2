// SPDX-License-Identifier: Apache-2.0
import { type Argument, type Command, type Option, optionsOf } from "./command.ts";

export type Shell = "bash" | "zsh" | "fish";

/** A script that completes every command of the table. */
export function completionScript(root: Command, shell: Shell): string {
  const places = [...walk(root, [])];
  if (shell === "bash") return bash(root.name, places);
  return shell === "zsh" ? zsh(root.name, places) : fish(root.name, places);
}

/** The same commands, with what they suggest as their choices. */
export async function withSuggestions(command: Command): Promise<Command> {
  const args = await Promise.all(
    (command.args ?? []).map(async (argument) => {
      const choices = await argument.suggestions?.();
      return choices === undefined ? argument : { ...argument, choices };
    }),
  );
  const commands = await Promise.all((command.commands ?? []).map(withSuggestions));
  return { ...command, args, commands };
}

/** A command and the words that lead to it, the program's name left out. */
interface Place {
  readonly path: string;
  readonly command: Command;
}

function* walk(command: Command, words: readonly string[]): Generator<Place> {
  yield { path: words.join(" "), command };
  for (const inner of command.commands ?? []) yield* walk(inner, [...words, inner.name]);
}

function spellings({ name, short }: Option): string[] {
  return short === undefined ? [`--${name}`] : [`--${name}`, `-${short}`];
}

/** What can follow an option, as something to choose from; undefined for free text. */
type Values = { readonly words: readonly string[] } | "paths" | undefined;

function valuesOf({ choices, path }: Option | Argument): Values {
  if (choices !== undefined) return { words: choices };
  return path === true ? "paths" : undefined;
}

/** Options that take a value, each once: their meaning doesn't depend on the command. */
function optionsWithValues(places: readonly Place[]): Map<string, Option> {
  const found = new Map<string, Option>();
  for (const { command } of places) {
    for (const option of optionsOf(command)) {
      if (option.value !== undefined) found.set(spellings(option).join("|"), option);
    }
  }
  return found;
}

/** The words that can follow a command. */
function wordsAfter({ command }: Place): string[] {
  const commands = (command.commands ?? []).map(({ name }) => name);
  const choices = (command.args ?? []).flatMap((argument) => argument.choices ?? []);
  return [...commands, ...choices];
}

function takesPaths({ command }: Place): boolean {
  return (command.args ?? []).some(({ path, rest }) => path === true || rest === true);
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** A `case` arm for every path at which words are known, so that the shell can follow them. */
function pathArms(places: readonly Place[]): string {
  return places
    .filter(({ path }) => path !== "")
    .map(({ path }) => quoted(path))
    .join("|");
}

const HEAD = "written by `ciliate completion`; write it again after an update";

function bash(program: string, places: readonly Place[]): string {
  const valueArms = [...optionsWithValues(places)].map(([names, option]) => {
    const values = valuesOf(option);
    if (values === "paths")
      return `    ${names}) COMPREPLY=($(compgen -f -- "$current")); return ;;`;
    const words = values === undefined ? "" : values.words.join(" ");
    return `    ${names}) COMPREPLY=($(compgen -W '${words}' -- "$current")); return ;;`;
  });
  const pathCases = places.map((place) => {
    const options = optionsOf(place.command).flatMap(spellings).join(" ");
    const words = wordsAfter(place).join(" ");
    const paths = takesPaths(place) ? "; paths=yes" : "";
    return `    ${quoted(place.path)}) options='${options}'; words='${words}'${paths} ;;`;
  });
  const takers = [...optionsWithValues(places).keys()].join("|");
  return `# bash completion of ${program}, ${HEAD}
_${program}() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD - 1]}
  local path='' options='' words='' paths='' skip='' word index
  case "$previous" in
${valueArms.join("\n")}
  esac
  for ((index = 1; index < COMP_CWORD; index++)); do
    word=\${COMP_WORDS[index]}
    if [ -n "$skip" ]; then skip=''; continue; fi
    case "$word" in
    ${takers}) skip=yes; continue ;;
    -*) continue ;;
    esac
    case "\${path:+$path }$word" in
    ${pathArms(places)}) path="\${path:+$path }$word" ;;
    esac
  done
  case "$path" in
${pathCases.join("\n")}
  esac
  case "$current" in
  -*) COMPREPLY=($(compgen -W "$options" -- "$current")) ;;
  *)
    COMPREPLY=($(compgen -W "$words" -- "$current"))
    [ -z "$paths" ] || COMPREPLY+=($(compgen -f -- "$current"))
    ;;
  esac
}
complete -o filenames -F _${program} ${program}
`;
}

function zsh(program: string, places: readonly Place[]): string {
  const described = (name: string, summary: string): string =>
    quoted(`${name.replaceAll(":", "\\:")}:${summary}`);
  const valueArms = [...optionsWithValues(places)].map(([names, option]) => {
    const values = valuesOf(option);
    if (values === "paths") return `    ${names}) _files; return ;;`;
    if (values === undefined)
      return `    ${names}) _message ${quoted(option.value ?? "")}; return ;;`;
    return `    ${names}) compadd -- ${values.words.join(" ")}; return ;;`;
  });
  const pathCases = places.map((place) => {
    const { command, path } = place;
    const commands = (command.commands ?? []).map((c) => described(c.name, c.summary));
    const choices = (command.args ?? []).flatMap((a) => (a.choices ?? []).map(quoted));
    const options = optionsOf(command).flatMap((option) =>
      spellings(option).map((spelling) => described(spelling, option.summary)),
    );
    const paths = takesPaths(place) ? " paths=yes" : "";
    const words = `words_here=(${[...commands, ...choices].join(" ")})`;
    return `    ${quoted(path)}) ${words} options_here=(${options.join(" ")})${paths} ;;`;
  });
  const takers = [...optionsWithValues(places).keys()].join("|");
  return `#compdef ${program}
# zsh completion of ${program}, ${HEAD}
_${program}() {
  local here='' skip='' paths='' word
  local -a words_here options_here
  case "\${words[CURRENT-1]}" in
${valueArms.join("\n")}
  esac
  for word in "\${(@)words[2,CURRENT-1]}"; do
    if [[ -n $skip ]]; then skip=''; continue; fi
    case "$word" in
    ${takers}) skip=yes; continue ;;
    -*) continue ;;
    esac
    case "\${here:+$here }$word" in
    ${pathArms(places)}) here="\${here:+$here }$word" ;;
    esac
  done
  case "$here" in
${pathCases.join("\n")}
  esac
  if [[ \${words[CURRENT]} == -* ]]; then
    _describe option options_here
  else
    (( \${#words_here} )) && _describe word words_here
    [[ -z $paths ]] || _files
  fi
}
if [[ \${funcstack[1]-} == _${program} ]]; then
  _${program} "$@"
else
  compdef _${program} ${program}
fi
`;
}

function fish(program: string, places: readonly Place[]): string {
  const takers = [...optionsWithValues(places).keys()].flatMap((names) => names.split("|"));
  const lines = places.flatMap((place) => {
    const { command, path } = place;
    const at = `complete -c ${program} -n ${quoted(`__${program}_at ${quoted(path)}`)}`;
    const words = [
      ...(command.commands ?? []).map((c) => `${at} -a ${quoted(c.name)} -d ${quoted(c.summary)}`),
      ...(command.args ?? []).flatMap((argument) =>
        (argument.choices ?? []).map((choice) => `${at} -a ${quoted(choice)}`),
      ),
    ];
    const options = optionsOf(command).map((option) => `${at} ${fishOption(option)}`);
    return [...words, ...(takesPaths(place) ? [`${at} -F`] : []), ...options];
  });
  return `# fish completion of ${program}, ${HEAD}
function __${program}_at
  set -l here
  set -l skip no
  for word in (commandline -opc)[2..-1]
    if test $skip = yes
      set skip no
    else if contains -- $word ${takers.join(" ")}
      set skip yes
    else if not string match -q -- '-*' $word
      set -l next (string trim -- "$here $word")
      contains -- $next ${places
        .filter(({ path }) => path !== "")
        .map(({ path }) => quoted(path))
        .join(" ")}
      and set here $here $word
    end
  end
  test "$here" = "$argv[1]"
end
complete -c ${program} -f
${lines.join("\n")}
`;
}

function fishOption(option: Option): string {
  const short = option.short === undefined ? "" : ` -s ${option.short}`;
  const values = valuesOf(option);
  const taken = option.value === undefined ? "" : values === "paths" ? " -r -F" : " -x";
  const words = typeof values === "object" ? ` -a ${quoted(values.words.join(" "))}` : "";
  return `-l ${option.name}${short}${taken}${words} -d ${quoted(option.summary)}`;
}
