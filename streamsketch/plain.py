"""Names and texts of others, on their way to a terminal, a log or a comment.

Whoever names a column, a file or a category must not move a cursor, colour a line, forge a log
record, or end a comment.
"""

import logging

__all__ = ["PlainFormatter", "first_line", "plain"]


def plain(text: str, keep: str = "") -> str:
    r"""A text whose control, format and other invisible characters are written as escapes.

    Args:
        text: Any text.
        keep: Characters that stay as they are, such as a line break between our own lines.

    >>> plain("a\nb \x1b[2J") == r"a\nb \x1b[2J"
    True
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text
    )


def first_line(error: BaseException) -> str:
    r"""What an error of another library says first; its type where it says nothing.

    >>> first_line(ValueError("no such key\n  at line 3")), first_line(OSError())
    ('no such key', 'OSError')
    """
    return (str(error).splitlines() or [type(error).__name__])[0]


class PlainFormatter(logging.Formatter):
    """One line for each message, whatever names are in it; a traceback follows on its own lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line."""
        record.message = plain(record.message)
        return super().formatMessage(record)
