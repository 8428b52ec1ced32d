"""The words of a text, and which of its bytes are theirs."""

import re

#: Characters of scripts that put no spaces between words, kana and ideographs: each is a word of its own.
_ALONE = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_ALONE}]|[^\s{_ALONE}]+")


def byte_words(text: str, first: int = 0) -> list[tuple[str, range]]:
    """Return the words of a text in their order, each with the places of its bytes in UTF-8.

    Words are what stands between white space, with their punctuation; in Chinese and Japanese they are characters.

    Args:
        text: in any language.
        first: place of the text's first byte, such as 1 where a token precedes it.
    """
    found = []
    for word in _WORD.finditer(text):
        start = first + len(text[: word.start()].encode())
        found.append((word[0], range(start, start + len(word[0].encode()))))
    return found
