"""Numbers with nouns in messages."""


def counted(number: int, noun: str) -> str:
    """Return a number with its noun in the right form: "1 node", "2 nodes", "3 batches"."""
    ending = "es" if noun.endswith(("s", "x", "ch", "sh")) else "s"
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}{ending}"
