"""What `data/decode.py` is made of: kinds of files, readers where Pillow's are wrong, and colour profiles."""
