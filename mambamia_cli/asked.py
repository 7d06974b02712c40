"""What may be asked: checks that the command line and batch share, made before anything is looked at."""

from collections.abc import Sequence

from mambamia_cli.errors import UsageError


def check_questions(questions: Sequence[str]) -> None:
    """Refuse an empty question.

    Raises:
        UsageError: one is empty.
    """
    if any(not text.strip() for text in questions):
        raise UsageError("a question is empty", "ask something, such as 'what happens in the video?'")


def check_choices(parts: Sequence[str], shown: str) -> tuple[str, ...]:
    """[" cat", "dog"] -> ("cat", "dog"). `shown` is how the user wrote them.

    Raises:
        UsageError: fewer than two, an empty one or the same one twice.
    """
    choices = tuple(part.strip() for part in parts)
    if len(choices) < 2 or not all(choices) or len(set(choices)) < len(choices):
        raise UsageError(f"{shown} is not a list of different choices", "give at least two, such as 'cat,dog'")
    return choices
