"""The shells whose words are completed: what each of them runs, and how it is answered.

Click's mechanism, with scripts of our own: values that have commas, words that go on (no space, no closing quote), and
commands behind `--`.
"""

from __future__ import annotations

import os
import shlex
from typing import ClassVar

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

from ptap.cli.main import COMPLETION_VARIABLE, arguments_with_command
from ptap.shell_completion.parameter_values import PART, Line

# A script's answers are lines of TYPE,VALUE: bash and fish; zsh: the lines TYPE, VALUE, help.
_BASH = r"""%(complete_func)s() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        case $line in
            dir,*) compopt -o dirnames ;;
            file,*) compopt -o default ;;
            command,*) mapfile -t COMPREPLY < <(compgen -c -- "${COMP_WORDS[COMP_CWORD]}"); compopt -o default ;;
            part,*) compopt -o nospace; COMPREPLY+=("${line#*,}") ;;
            plain,*) COMPREPLY+=("${line#*,}") ;;
        esac
    done < <(IFS=$'\n'; env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD="$COMP_CWORD" %(complete_var)s=bash_complete \
        "${1/#\~/$HOME}" 2> /dev/null)
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""
_ZSH = r"""#compdef %(prog_name)s

%(complete_func)s() {
    local type key descr
    local -a response plain part described
    response=("${(@f)$(env COMP_WORDS="${(pj:\n:)words}" COMP_CWORD=$((CURRENT-1)) \
        %(complete_var)s=zsh_complete "${words[1]/#\~/$HOME}" 2> /dev/null)}")
    for type key descr in "${response[@]}"; do
        case $type in
            dir) _path_files -/ ;;
            file) _files ;;
            command) _command_names -e; _files ;;
            part) part+=("$key") ;;
            plain) if [[ $descr == _ ]]; then plain+=("$key"); else described+=("$key:$descr"); fi ;;
        esac
    done
    (( $#described )) && _describe -V unsorted described -U
    (( $#plain )) && compadd -U -V unsorted -a plain
    (( $#part )) && compadd -U -V unsorted -S '' -a part
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""
_FISH = r"""function %(complete_func)s
    for answer in (env COMP_WORDS=(commandline -cp | string collect) COMP_CWORD=(commandline -ct | string collect) \
        %(complete_var)s=fish_complete %(prog_name)s 2> /dev/null)
        set -l fields (string split -m 1 "," -- $answer)
        switch $fields[1]
            case dir
                __fish_complete_directories (commandline -ct)
            case file
                __fish_complete_path (commandline -ct)
            case command
                __fish_complete_subcommand --commandline (commandline -cp | string replace -r '.*? -- ' '')
            case plain part
                echo $fields[2]
        end
    end
end
complete --no-files --command %(prog_name)s --arguments "(%(complete_func)s)"
"""


class _Shell(ShellComplete):
    """What the three have in common: the words of ptap's command line."""

    _raw = ""
    """The incomplete word as it is written, with its quotes."""

    def words(self) -> tuple[list[str], list[str]]:
        """The words up to the incomplete one, as they are written, and those behind it, as far as the shell tells."""
        words = os.environ["COMP_WORDS"].split("\n")
        at = int(os.environ["COMP_CWORD"])
        return words[1 : at + 1], words[at + 1 :]

    def get_completion_args(self) -> tuple[list[str], str]:
        """Click's words before the cursor, and the incomplete one; `trace` is put where the short form leaves it out.

        Behind `--` the words begin with it; the traced program, wherever it stands, is in the context's object.
        """
        written, behind = self.words()
        self._raw = written[-1] if written else ""
        *before, incomplete = [_unquoted(each) for each in written] or [""]
        if "--" in before:
            return before[before.index("--") :], incomplete
        if before or incomplete.startswith(("process", "kernel.", "module(", "timer.")):
            before = arguments_with_command([*before, incomplete])[0][:-1]
        rest = [_unquoted(each) for each in behind]
        self.ctx_args["obj"] = Line(tuple(before), tuple(rest[rest.index("--") + 1 :]) if "--" in rest else ())
        return before, incomplete

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        """What the incomplete word may become; behind `--` that is for the shell to tell."""
        if args[:1] == ["--"]:
            return [CompletionItem(incomplete, type="command" if len(args) == 1 else "file")]
        found = super().get_completions(args, incomplete)
        return [each for each in found if "\n" not in each.value]


class Bash(_Shell, BashComplete):
    """Bash takes words as they are written: it is told them with quotes."""

    source_template: ClassVar[str] = _BASH

    def source(self) -> str:
        """The script; that bash is older than 4.4 shows itself."""
        return self.source_template % self.source_vars()

    def words(self) -> tuple[list[str], list[str]]:
        """Bash makes three words of `--format=json`."""
        before, behind = super().words()
        kept = [each for at, each in enumerate(before) if each != "=" or not before[at - 1].startswith("--")]
        return (kept if before[-1:] != ["="] else [*kept, ""]), behind

    def format_completion(self, item: CompletionItem[str]) -> str:
        """A line of the answer; a word that is not quoted yet gets quotes where it needs them."""
        value = item.value
        if self._raw.startswith('"'):
            value = "".join(f"\\{each}" if each in '$`"\\' else each for each in value)
        elif self._raw.startswith("'"):
            value = value.replace("'", "'\\''")
        elif item.type in ("plain", PART):
            value = shlex.quote(value)
            if item.type == PART and value.endswith("'"):
                value = value[:-1]
        return f"{item.type},{value}"


class Zsh(_Shell, ZshComplete):
    """Zsh puts quotes by itself."""

    source_template: ClassVar[str] = _ZSH


class Fish(_Shell, FishComplete):
    """Fish tells the line up to the cursor, and puts quotes by itself."""

    source_template: ClassVar[str] = _FISH

    def words(self) -> tuple[list[str], list[str]]:
        """Words are kept as they are: they have no quotes any more."""
        incomplete = os.environ["COMP_CWORD"]
        words = split_arg_string(os.environ["COMP_WORDS"])[1:]
        written = [shlex.quote(each) for each in words]
        return (written if incomplete else [*written, ""]), []


SHELLS: dict[str, type[_Shell]] = {"bash": Bash, "fish": Fish, "zsh": Zsh}


def register() -> None:
    """Have click use these for its own ones."""
    for shell in SHELLS.values():
        add_completion_class(shell)


def _unquoted(word: str) -> str:
    """A word as the program will get it; its last quote may be missing."""
    return "".join(split_arg_string(word))


def script(shell: str) -> str:
    """What `shell` (a name of SHELLS) has to run once. A line at the top says what it is."""
    made = SHELLS[shell](click.Command("ptap"), {}, "ptap", COMPLETION_VARIABLE).source()
    first, newline, rest = made.partition("\n")
    note = f"# Completion of ptap's command line in {shell}, by `ptap completion {shell}`."
    return f"{first}\n{note}\n{rest}" if first.startswith("#compdef") else f"{note}\n{first}{newline}{rest}"
