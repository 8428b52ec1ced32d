"""What docstrings say about arguments, and what classes take over from their bases."""

import inspect

from aigc_lightning.core.docstrings import argument_texts, inherit_argument_texts


class Base:
    """A shape.

    Args:
        width: in pixels,
            at least 1.
        color (str): of the lines.
        unused: of this class alone.

    Raises:
        ValueError: no shape.
    """

    def __init__(self, width, color="red", unused=0):
        pass


def test_texts_of_arguments():
    texts = {"width": "in pixels, at least 1.", "color": "of the lines.", "unused": "of this class alone."}
    assert argument_texts(Base) == texts
    assert argument_texts(len) == argument_texts(object) == {}


def test_a_class_describes_its_own_arguments_and_takes_over_the_others():
    class Square(Base):
        """A square.

        Args:
            angle: in degrees.
            color: of the area.

        Raises:
            ValueError: no square.
        """

        def __init__(self, width, angle, color="blue"):
            pass

    class Tilted(Square):
        """A tilted square."""

        def __init__(self, angle, width):
            pass

    for each in (Square, Tilted):
        inherit_argument_texts(each)
    lines = ["angle: in degrees.", "color: of the area.", "width: in pixels, at least 1."]
    assert inspect.getdoc(Square) == "\n".join(
        ["A square.", "", "Args:", *(f"    {line}" for line in lines), "", "Raises:", "    ValueError: no square."]
    )
    assert inspect.getdoc(Tilted) == "\n".join(["A tilted square.", "", "Args:", f"    {lines[0]}", f"    {lines[2]}"])


def test_a_class_without_a_docstring_stays_so():
    class Bare(Base):
        pass

    inherit_argument_texts(Bare)
    assert Bare.__doc__ is None
