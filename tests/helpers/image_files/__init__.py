"""Image files of every kind, made here, with the picture that each has to give: see `table.py`."""
