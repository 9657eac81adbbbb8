"""Numbers in sentences for operators, which are in English."""


def counted(number: int, one: str, several: str = "") -> str:
    """`1 message` or `2 messages`. several: what is not only `one` with an s, as in `processes`."""
    return f"{number} {one if number == 1 else several or f'{one}s'}"
