"""Files that systems and programs leave among users' files; skipped in folders, archives and edits."""

#: Names in lower case; names that begin with a dot, such as `._photo.png` and `.ipynb_checkpoints`, are also litter.
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
    """Return whether a file or folder with this name was not created by the user."""
    return name.startswith(".") or name.lower() in _NAMES


def is_litter_path(path: str) -> bool:
    """Return whether a path with slashes, such as that of an archive member, is or is inside litter."""
    return any(is_litter(part) for part in path.split("/") if part not in ("", ".", ".."))
