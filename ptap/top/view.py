"""The terminal of `ptap top`: keys change what is selected, and a clock brings new samples.

All that is shown is made by the model (`sliding_profile`, `selection`, `status_lines`); here it only meets the screen.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Footer, Input, Static

from ptap.top.help_text import HELP
from ptap.top.row_list import RowList
from ptap.top.selection import Selection, Table
from ptap.top.sliding_profile import LONGEST_WAIT_S, Scope, SlidingProfile, TraceSource
from ptap.top.status_lines import SamplingState, status_lines
from ptap.top.table_lines import Order, matcher

_THEME = "ansi-dark"
_END_DELAY_S = 0.2


class SampledSource(TraceSource, Protocol):
    """Where traces come from, which tells more of itself, too."""

    interrupted: bool
    """The view is to end."""

    def state(self) -> SamplingState:
        """How the sampling goes."""


class HelpScreen(ModalScreen[None]):
    """The keys; any key ends it."""

    DEFAULT_CSS = """
    HelpScreen { align: center middle; }
    HelpScreen > Static { width: auto; height: auto; border: round $accent; padding: 0 1; }
    """

    def compose(self) -> ComposeResult:
        """One box of text."""
        yield Static(HELP, markup=False)

    def on_key(self) -> None:
        """Any key."""
        self.dismiss()

    def on_click(self) -> None:
        """Anywhere."""
        self.dismiss()


class TopView(App[None]):
    """Shows what `source` gives, added up in `profile`, anew every `delay` seconds."""

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #status { height: 3; text-style: bold; text-wrap: nowrap; text-overflow: ellipsis; }
    #title { height: 1; text-style: underline; }
    #prompt { height: 1; display: none; }
    #prompt.asked { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark,h,f1", "help", "Help", key_display="?"),
        Binding("f", "table('FUNCTIONS')", "Functions"),
        Binding("s", "table('STACKS')", "Stacks"),
        Binding("t", "table('THREADS')", "Threads"),
        Binding("tab", "next_table", show=False, priority=True),
        Binding("w", "scope", "Time"),
        Binding("o", "order", "Sort"),
        Binding("slash", "ask('/')", "Find", key_display="/"),
        Binding("ampersand", "ask('&')", "Only", key_display="&"),
        Binding("n", "again(1)", show=False),
        Binding("N", "again(-1)", show=False),
        Binding("p,space", "pause", "Pause"),
        Binding("r", "reset", "Reset", show=False),
        Binding("escape", "widen", "Back", show=False),
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", show=False, priority=True),
    ]

    def __init__(self, source: SampledSource, profile: SlidingProfile, delay: float) -> None:
        super().__init__()
        self.profile = profile
        self.selection = Selection()
        self._source = source
        self._delay = delay
        self._state = source.state()
        self._frozen: SlidingProfile | None = None
        """What is shown while the screen stands still."""
        self._sought = ""
        self._asked = ""
        """What the prompt is for: `/` or `&`."""
        self._before: tuple[str, int] = "", 0
        """The words, and the chosen line, before the prompt."""
        self._shown: object = None
        """Whose lines were shown last: of others the first is chosen."""
        self._rows = RowList()

    def compose(self) -> ComposeResult:
        """Status, titles, the table, a prompt, and the keys."""
        yield Static(id="status", markup=False)
        yield Static(id="title", markup=False)
        yield self._rows
        yield Input(id="prompt", compact=True)
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Begin to show, in the terminal's own colours."""
        if _THEME in self.available_themes:
            self.theme = _THEME
        self._rows.focus()
        self.refresh_samples()
        self.set_interval(self._delay, self.refresh_samples)
        self.set_interval(LONGEST_WAIT_S, lambda: self.profile.take(self._source))
        self.set_interval(_END_DELAY_S, self.end_if_asked)

    def refresh_samples(self) -> None:
        """Take what is new, and show it unless the screen stands still."""
        self._state = self._source.state()  # first: when it says that the end has come, all traces are there
        self.profile.take(self._source)
        self._show()

    def end_if_asked(self) -> None:
        """End when something else than a key asks for it."""
        if self._source.interrupted:
            self.exit()

    def _show(self) -> None:
        profile, selection = self._frozen or self.profile, self.selection
        state = self._state
        head, counts, threads = status_lines(profile, selection.scope, state)
        paused = "  PAUSED (p goes on)" if self._frozen is not None else ""
        self.query_one("#status", Static).update(
            f"{selection.description(profile)}{paused}  {head}\n{counts}\n{threads}"
        )
        self.query_one("#title", Static).update(selection.table.value)
        shown = (selection.table, selection.thread, selection.function)
        if shown != self._shown:
            self._shown, self._rows.cursor = shown, 0
        self._rows.show(selection.lines(profile, state.frequency))

    def action_help(self) -> None:
        """Show the keys."""
        self.push_screen(HelpScreen())

    def action_table(self, name: str) -> None:
        """Go to a table; to that of stacks, of all of them."""
        self.selection.table, self.selection.function = Table[name], None
        self._show()

    def action_next_table(self) -> None:
        """Go to the next table."""
        tables = list(Table)
        self.action_table(tables[(tables.index(self.selection.table) + 1) % len(tables)].name)

    def action_scope(self) -> None:
        """The last seconds, or all since the start."""
        self.selection.scope = Scope.START if self.selection.scope is Scope.WINDOW else Scope.WINDOW
        self._show()

    def action_order(self) -> None:
        """Sort functions by themselves, or with what they call."""
        self.selection.order = Order.TOTAL if self.selection.order is Order.OWN else Order.OWN
        self._show()

    def action_pause(self) -> None:
        """Stand still, or go on."""
        self._frozen = self.profile.frozen() if self._frozen is None else None
        self._show()

    def action_reset(self) -> None:
        """Begin anew."""
        self._frozen = None
        self.refresh_samples()
        self.profile.reset()
        self.selection.opened.clear()
        self._show()

    def action_widen(self) -> None:
        """Take back the prompt, the search, or the last narrowing."""
        if self._asked:
            self.selection.words = self._before[0]
            self._close_prompt()
            self._rows.forget_sought()
            self._rows.action_move_to(self._before[1])
            self._sought = ""
        elif self._sought:
            self._sought = ""
            self._rows.forget_sought()
        else:
            self.selection.widen()
        self._show()

    def action_ask(self, what: str) -> None:
        """Have words typed, to search for or to narrow down to."""
        self._asked, self._before = what, (self.selection.words, self._rows.cursor)
        prompt = self.query_one("#prompt", Input)
        prompt.value, prompt.placeholder = "", "search for" if what == "/" else "only lines with (none: all)"
        prompt.add_class("asked")
        prompt.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Search or narrow down with every key."""
        if self._asked == "&":
            self.selection.words = event.value
            self._show()
        elif self._asked and event.value:
            self._sought = event.value
            self._seek(self._before[1], 1)

    def on_input_submitted(self) -> None:
        """Keep what was typed."""
        if self._asked == "&":
            self.selection.words = self.query_one("#prompt", Input).value
        self._close_prompt()
        self._show()

    def action_again(self, step: int) -> None:
        """Go to the next line that was searched for, or to the one before."""
        if self._sought:
            self._seek(self._rows.cursor + step, step)

    def on_row_list_chosen(self, event: RowList.Chosen) -> None:
        """Go on from a line."""
        self.selection.open(event.subject)
        self._show()

    def _seek(self, start: int, step: int) -> None:
        if not self._rows.seek(self._sought, matcher(self._sought), start=start, step=step):
            self.bell()

    def _close_prompt(self) -> None:
        self._asked = ""
        self.query_one("#prompt", Input).remove_class("asked")
        self._rows.focus()
