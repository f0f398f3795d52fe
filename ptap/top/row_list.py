"""A list of lines on a terminal, of which only those in sight cost anything, with a line that is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from ptap.top.table_lines import Colour, Matcher, TableLine

_CHOSEN = Style(reverse=True, bold=True)
"""Whatever colours a terminal has, that can be read."""


class RowList(ScrollView, can_focus=True):
    """Shows lines; the chosen one stays the one about the same subject when the lines are changed."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"row-list--kernel", "row-list--mark", "row-list--found"}
    DEFAULT_CSS = """
    RowList { height: 1fr; overflow: auto auto; }
    RowList > .row-list--kernel { color: ansi_yellow; }
    RowList > .row-list--mark { color: ansi_bright_black; }
    RowList > .row-list--found { background: ansi_cyan; color: ansi_black; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home,g", "move_to(0)", "First", show=False),
        Binding("end,G", "move_to(-1)", "Last", show=False),
        Binding("enter", "choose", "Open", show=False),
    ]

    class Chosen(Message):
        """Enter was pressed on a line, or it was clicked while it was the chosen one."""

        def __init__(self, subject: object) -> None:
            super().__init__()
            self.subject = subject

    def __init__(self) -> None:
        super().__init__()
        self.lines: Sequence[TableLine] = ()
        self.cursor = 0
        """Index of the chosen line."""
        self._sought = ""

    def show(self, lines: Sequence[TableLine]) -> None:
        """Show these lines instead. A chosen line that is not the first is followed where it goes."""
        subject = self.lines[self.cursor].subject if self.cursor and self.cursor < len(self.lines) else None
        self.lines = lines
        if subject is not None:
            self.cursor = next((at for at, line in enumerate(lines) if line.subject == subject), self.cursor)
        self.cursor = max(min(self.cursor, len(lines) - 1), 0)
        self.virtual_size = Size(max((len(line.text) for line in lines), default=0), len(lines))
        self._bring_into_sight()
        self.refresh()

    def seek(self, words: str, wanted: Matcher, *, start: int, step: int) -> bool:
        """Choose the next line from `start` on that is `wanted`, around the end if need be; mark `words` everywhere."""
        self._sought = words
        count = len(self.lines)
        for distance in range(count):
            at = (start + step * distance) % count
            if wanted(self.lines[at].text):
                self.action_move_to(at)
                return True
        self.refresh()
        return False

    def forget_sought(self) -> None:
        """Mark nothing any more."""
        self._sought = ""
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One line of the screen."""
        left, top = self.scroll_offset
        at, width = y + top, self.size.width
        if at >= len(self.lines):
            return Strip.blank(width, self.rich_style)
        line = self.lines[at]
        style = self.rich_style
        if line.colour is not Colour.USER:
            style += self.get_component_rich_style(f"row-list--{line.colour.value}", partial=True)
        if at == self.cursor:
            style += _CHOSEN
        text = Text(line.text, end="")
        if self._sought:
            found = self.get_component_rich_style("row-list--found", partial=True)
            text.highlight_words([self._sought], found, case_sensitive=self._sought != self._sought.lower())
        segments = Segment.apply_style(text.render(self.app.console), style)
        return Strip(segments).crop_extend(left, left + width, style)

    def on_click(self, event: events.Click) -> None:
        """Choose the line there; once more, and it is opened."""
        at = event.y + self.scroll_offset.y
        if at >= len(self.lines):
            return
        if at == self.cursor:
            self.action_choose()
        else:
            self.action_move_to(at)

    def action_move(self, step: int) -> None:
        """Choose the line so many lines on."""
        self.action_move_to(max(min(self.cursor + step, len(self.lines) - 1), 0))

    def action_page(self, step: int) -> None:
        """Choose the line a screen away."""
        self.action_move(step * max(self.size.height - 1, 1))

    def action_move_to(self, at: int) -> None:
        """Choose a line by its number, or the last one by -1."""
        self.cursor = at if at >= 0 else max(len(self.lines) - 1, 0)
        self._bring_into_sight()
        self.refresh()

    def action_choose(self) -> None:
        """Say that the chosen line is to be opened."""
        if self.cursor < len(self.lines):
            self.post_message(self.Chosen(self.lines[self.cursor].subject))

    def _bring_into_sight(self) -> None:
        self.scroll_to_region(
            Region(round(self.scroll_x), self.cursor, 1, 1), animate=False, force=True, x_axis=False, immediate=True
        )
