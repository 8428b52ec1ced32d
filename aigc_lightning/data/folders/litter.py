"""What systems and programs leave among people's files; it is passed over in folders, archives and edits alike."""

#: Names in lower case; all that begin with a dot, such as `._photo.png` and `.ipynb_checkpoints`, are litter as well.
_NAMES = frozenset(
    (
        *("__macosx", "icon\r", "network trash folder", "temporary items"),  # macOS, and what it leaves on servers
        *(
            "thumbs.db",
            "ehthumbs.db",
            "desktop.ini",
            "$recycle.bin",
            "recycler",
            "system volume information",
        ),  # Windows
        *("@eadir", "@tmp", "#recycle", "#snapshot"),  # Synology
        *("@recycle", "@recently-snapshot", "@__thumb"),  # QNAP
        *("lost+found", "__pycache__"),
    )
)


def is_litter(name: str) -> bool:
    """Return whether a file or folder of this name holds nothing that a person put there."""
    return name.startswith(".") or name.lower() in _NAMES


def is_litter_path(path: str) -> bool:
    """Return whether a path with slashes, such as that of a member of an archive, is or lies in litter."""
    return any(is_litter(part) for part in path.split("/") if part not in ("", ".", ".."))
