"""Parts of `data/decode.py`: file formats, readers where Pillow's are wrong, and colour profiles."""
