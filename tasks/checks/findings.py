"""How a check says what is wrong with a setting."""

from collections.abc import Callable, Iterator

from django.core.checks import CheckMessage, Error


def fault(number: int, text: str, hint: str) -> Error:
    return Error(text, hint=hint, id=f"crew.E{number:03}")


def tried(number: int, name: str, use: Callable[[], object], hint: str) -> Iterator[CheckMessage]:
    try:
        use()
    except Exception as error:  # noqa: BLE001  whatever an import or a parser says
        yield fault(number, f"{name} cannot be used: {error}", f"It takes {hint}.")
